// Serves routes of the protocol: who asks, may they, is it well formed; then one call of the handler.

import type { ServerResponse } from 'node:http'
import { Failure, type Route, singletonPath } from '@atoll/protocol'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import type { Context } from 'hono'
import type { Logger } from 'pino'
import type { z } from 'zod'
import type { Auth } from '../auth/auth.ts'
import { authorize, type Caller } from '../auth/caller.ts'
import type { Lifecycle } from '../sandboxes/lifecycle.ts'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import type { Store } from '../sandboxes/store.ts'
import { sendFailure, streamBegins } from './answers.ts'
import { readJson } from './body.ts'
import type { App, Bindings, Call, Handler, Handlers } from './call.ts'
import type { RateLimits } from './limits.ts'
import type { Shares, Strangers } from './shares.ts'
import type { Trace, Trail } from './trail.ts'

export interface MountParts {
  readonly app: App
  readonly auth: Auth
  readonly lifecycle: Lifecycle
  readonly store: Store
  readonly limits: RateLimits
  readonly shares: Shares
  readonly strangers: Strangers
  readonly trail: Trail
  readonly log: Logger
}

/** Sees every sandbox: undefined. Else only its own. */
export const ownerOf = (caller: Caller): string | undefined => (caller.scope === 'admin' ? undefined : caller.owner)

/** Serves each route of a group with its handler, and the singleton twins. */
export function serveAll<Group extends Readonly<Record<string, Route>>>(parts: MountParts, group: Group, handlers: Handlers<Group>): void {
  for (const [name, route] of Object.entries(group)) {
    // The mapped type ties each name to its own handler; iteration loses that tie.
    const handler = handlers[name] as unknown as Handler<Route>
    serve(parts, route, handler, route.path)
    if (route.singleton) serve(parts, route, handler, singletonPath(route.path))
  }
}

function serve(parts: MountParts, route: Route, handler: Handler<Route>, path: string): void {
  parts.app.on(route.method, path.replaceAll(/\{(\w+)\}/g, ':$1'), async (context) => {
    context.set('path', path)
    const log = parts.log.child({ requestId: context.get('requestId'), route: path })
    const trace = parts.trail.of(route, context.env.incoming)
    try {
      return await answer(parts, { route, handler, trace }, context)
    } catch (error) {
      trace.failed(error, context.req.param('id'))
      sendFailure(context.env.outgoing, error, log)
      return RESPONSE_ALREADY_SENT
    }
  })
}

interface Asked {
  readonly route: Route
  readonly handler: Handler<Route>
  readonly trace: Trace
}

async function answer(parts: MountParts, { route, handler, trace }: Asked, context: Context<Bindings>): Promise<Response> {
  const { incoming, outgoing } = context.env
  const caller = await whoAsks(parts, { route, trace }, context)
  // Who runs the operator may use all of it.
  if (caller && caller.scope !== 'admin') untilAnswered(outgoing, parts.shares.enter(caller.owner))
  // A body that comes slowly costs its sender nothing: nobody keeps others out without a credential.
  if (!caller && route.body) untilAnswered(outgoing, parts.strangers.enter(parts.limits.clientOf(incoming)))
  const sandbox =
    caller && route.path.includes('{id}') ? await findSandbox(parts, caller, context.req.param('id'), route.seesDeleted) : undefined
  if (sandbox) trace.isAbout(sandbox)
  const request = await parseRequest(route, context)
  const abort = new AbortController()
  outgoing.once('close', () => outgoing.writableEnded || abort.abort(new Failure('request.timeout', 'The client went away.')))
  let status = route.status ?? 200
  const call = {
    request,
    caller,
    sandbox,
    requestId: context.get('requestId'),
    signal: abort.signal,
    incoming,
    outgoing,
    note: trace.note,
    setStatus: (code: number) => {
      status = code as typeof status
    },
  }
  // The parts were made as the route says; the types of one route are not known in a loop over all.
  const result = await handler(call as unknown as Call<Route>)
  await trace.done(context.req.param())
  if (route.stream) return RESPONSE_ALREADY_SENT
  return context.json(result as unknown as object, status)
}

/** Calls when nothing of a request is in flight any more. */
export function untilAnswered(outgoing: ServerResponse, done: () => void): void {
  outgoing.once(streamBegins, done)
  outgoing.once('close', done)
  if (outgoing.destroyed) done()
}

/** The caller, counted against its limits. Public routes know a caller too when a valid credential is there. */
async function whoAsks(
  { auth, limits }: MountParts,
  { route, trace }: Pick<Asked, 'route' | 'trace'>,
  context: Context<Bindings>,
): Promise<Caller | undefined> {
  const { incoming } = context.env
  if (route.access === 'public') {
    limits.count(route, incoming, undefined)
    const known = await auth.identify(incoming.headers).catch(() => undefined)
    if (known) trace.isBy(known)
    return known
  }
  try {
    const caller = await auth.identify(incoming.headers)
    trace.isBy(caller)
    limits.count(route, incoming, caller)
    authorize(caller, route.access)
    return caller
  } catch (error) {
    // A wrong credential counts too, so that guessing is as limited as asking.
    if (error instanceof Failure && error.status === 401) limits.count(route, incoming, undefined)
    throw error
  }
}

/** The caller's sandbox by id, or its only one. @throws Failure `sandbox.not_found`, `sandbox.ambiguous` */
export async function findSandbox(
  { lifecycle, store }: Pick<MountParts, 'lifecycle' | 'store'>,
  caller: Caller,
  id: string | undefined,
  seesDeleted = false,
): Promise<SandboxRecord> {
  if (id !== undefined) return lifecycle.get(ownerOf(caller), id, seesDeleted)
  const own = await store.list({ owner: caller.owner, states: ['creating', 'running', 'paused', 'stopped', 'deleting'], limit: 2 })
  const [only] = own
  if (!only) throw new Failure('sandbox.not_found', 'Instance not provisioned')
  if (own.length > 1) throw new Failure('sandbox.ambiguous', 'You have several sandboxes. Name one: /api/sandboxes/{id}/…')
  return only
}

async function parseRequest(route: Route, context: Context<Bindings>): Promise<Record<string, unknown>> {
  const request: Record<string, unknown> = { params: context.req.param() }
  if (route.query) request['query'] = parse(route.query, context.req.query())
  if (route.body) {
    const sent = await readJson(context.env.incoming, route.maxBodyBytes)
    request['body'] = parse(route.body, sent === undefined ? {} : sent)
  }
  if (!route.body && !route.upload) context.env.incoming.resume()
  return request
}

function parse(schema: z.ZodType, value: unknown): unknown {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw new Failure('request.invalid', describe(result.error))
}

/** Says where the first problems are, in one sentence. */
function describe(error: z.ZodError): string {
  const problems = error.issues.slice(0, 3).map((issue) => {
    const where = issue.path.join('.')
    return where === '' ? issue.message : `${where}: ${issue.message}`
  })
  return problems.join('; ')
}
