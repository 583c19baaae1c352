// The HTTP server: what happens to every request before and after its route.
import { randomBytes } from 'node:crypto'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { Failure } from '@atoll/protocol'
import { getRequestListener } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { Hono } from 'hono'
import type { Logger } from 'pino'
import type { Metrics } from '../telemetry/metrics.ts'
import { sendFailure, streamBegins } from './answers.ts'
import type { App, Bindings } from './call.ts'
import type { Doors } from './doors.ts'
import { type FenceParts, passFence } from './fence.ts'
import type { ProxyAddress } from './proxy-address.ts'
import { refuseUnread } from './raw-refusal.ts'

export interface ServerParts {
  readonly log: Logger
  readonly metrics: Metrics
  readonly fence: () => FenceParts
  /** Told of a request that the fence did not let in. */
  readonly onRefused: (incoming: IncomingMessage, thrown: unknown) => void
  /** Made once the app's routes are there. */
  readonly doors: () => Doors
  readonly maxRequests: number
}

export interface Server {
  readonly app: App
  listen(host: string, port: number): Promise<{ readonly host: string; readonly port: number }>
  /** Takes no more requests, and resolves when those in flight are answered or the time is over. */
  close(drainMs: number): Promise<void>
}

/** Unique over restarts, and says nothing about how many there were. */
const newRequestId = (): string => `req-${randomBytes(8).toString('hex')}`

function createApp(log: Logger): App {
  const app: App = new Hono<Bindings>()
  app.use(async (context, next) => {
    context.set('requestId', String(context.env.outgoing.getHeader('x-request-id')))
    await next()
    // Hono writes its answers' headers itself; those of the fence are on the response already.
  })
  app.notFound((context) => {
    const failure = new Failure(
      'route.not_found',
      `No route ${context.req.method} ${context.req.path.slice(0, 200)}. GET /openapi.json lists all.`,
    )
    sendFailure(context.env.outgoing, failure, log)
    return RESPONSE_ALREADY_SENT
  })
  app.onError((error, context) => {
    sendFailure(context.env.outgoing, error, log)
    return RESPONSE_ALREADY_SENT
  })
  return app
}

function passes(
  { fence, onRefused }: Pick<ServerParts, 'fence' | 'onRefused'>,
  ...[incoming, outgoing, address]: readonly [IncomingMessage, ServerResponse, ProxyAddress | undefined]
): boolean {
  try {
    return passFence(fence(), incoming, outgoing, address)
  } catch (error) {
    onRefused(incoming, error)
    throw error
  }
}

export function createServer(parts: ServerParts): Server {
  const { log, metrics } = parts
  const app = createApp(log)
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false })
  let inFlight = 0

  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const requestId = newRequestId()
    const startedAt = performance.now()
    outgoing.setHeader('x-request-id', requestId)
    incoming.on('error', (error) => log.debug({ requestId, err: error }, 'request broke off'))
    inFlight += 1
    let isCounted = true
    const uncount = (): void => {
      if (isCounted) inFlight -= 1
      isCounted = false
    }
    outgoing.once(streamBegins, uncount)
    outgoing.once('close', () => {
      uncount()
      record(incoming, outgoing, { requestId, durationMs: performance.now() - startedAt })
    })
    serve(incoming, outgoing, requestId).catch((error: unknown) => sendFailure(outgoing, error, log.child({ requestId })))
  }

  const serve = async (incoming: IncomingMessage, outgoing: ServerResponse, requestId: string): Promise<void> => {
    if (inFlight > parts.maxRequests)
      throw new Failure('request.busy', 'The operator is busy. Try again in a moment.', { retryAfterMs: 1000 })
    const doors = parts.doors()
    const address = doors.addressOf(incoming)
    if (!passes(parts, incoming, outgoing, address)) return
    if (address) await doors.request(address, requestId, incoming, outgoing)
    else await listener(incoming, outgoing)
  }

  const record = (incoming: IncomingMessage, outgoing: ServerResponse, sample: { requestId: string; durationMs: number }): void => {
    const path = routeTemplate(app, incoming)
    metrics.request({ path, method: incoming.method ?? 'GET', status: outgoing.statusCode, durationMs: sample.durationMs })
    log.info(
      {
        requestId: sample.requestId,
        method: incoming.method,
        route: path,
        status: outgoing.statusCode,
        durationMs: Math.round(sample.durationMs * 10) / 10,
      },
      'request',
    )
  }

  /** HTTP lets a server leave an upgrade alone that it does not know, as clients that would rather speak HTTP/2 expect. */
  const shouldUpgradeCallback = (incoming: IncomingMessage): boolean =>
    incoming.headers.upgrade?.toLowerCase() === 'websocket' || parts.doors().isForPort(incoming)
  const server = http.createServer(
    { requestTimeout: 0, headersTimeout: 30_000, keepAliveTimeout: 75_000, shouldUpgradeCallback },
    onRequest,
  )
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => refuseUnread(error, socket, log))
  server.on('checkExpectation', (_, outgoing: ServerResponse) => {
    sendFailure(outgoing, new Failure('request.invalid', 'The only Expect header that can be met is 100-continue.', { status: 417 }), log)
  })
  const upgraded = new Set<Duplex>()
  server.on('upgrade', (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
    upgraded.add(socket)
    socket.once('close', () => upgraded.delete(socket))
    const requestId = newRequestId()
    log.info({ requestId, method: incoming.method, route: 'upgrade' }, 'upgrade')
    parts
      .doors()
      .upgrade(requestId, incoming, socket, head)
      .catch((error: unknown) => {
        log.error({ requestId, err: error }, 'upgrade failed')
        socket.destroy()
      })
  })
  return { app, listen: (host, port) => listen(server, host, port), close: (drainMs) => close(server, upgraded, drainMs) }
}

function listen(server: http.Server, host: string, port: number): Promise<{ host: string; port: number }> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const reason =
        cause.code === 'EADDRINUSE'
          ? `Port ${port} on ${host} is taken. Stop what listens there, or choose another with ATOLL_PORT.`
          : cause.message
      reject(new Failure('config.invalid', reason, { cause }))
    })
    server.listen({ host, port }, () => {
      const address = server.address() as AddressInfo
      resolve({ host: address.address, port: address.port })
    })
  })
}

async function close(server: http.Server, upgraded: ReadonlySet<Duplex>, drainMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const timer = setTimeout(() => server.closeAllConnections(), drainMs)
  for (const socket of upgraded) socket.destroy()
  await closed
  clearTimeout(timer)
}

/** The template of the route that a request met, so that metrics do not grow with ids. */
function routeTemplate(app: App, incoming: IncomingMessage): string {
  const path = (incoming.url ?? '/').split('?')[0] ?? '/'
  if (/^\/api\/(sandboxes\/[^/]+|sandbox)\/port\//.test(path)) return '/api/sandboxes/{id}/port/{port}'
  const [matched] = app.router.match(incoming.method ?? 'GET', path)
  const last = matched.at(-1)?.[0]
  const template = Array.isArray(last) ? last[1]?.path : undefined
  return template === undefined || template.includes('*') ? 'unmatched' : template.replaceAll(/:(\w+)/g, '{$1}')
}
