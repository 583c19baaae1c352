import type { z } from 'zod'
import type { AuditAction } from './audit-actions.ts'

/** Who may call a route. `public`: anyone. `read`, `write`: an owner's session or key of that scope. `admin`: the operator's owner. */
export type Access = 'public' | 'read' | 'write' | 'admin'

/** Which rate limit counts a call; the limits are settings of the operator. */
export type RateTier = 'read' | 'write' | 'interactive' | 'auth'

/** What travels when a body is not JSON. */
export type Stream = 'bytes' | 'events' | 'websocket'

/** One HTTP operation, described once: the operator serves it, the SDK calls it, OpenAPI prints it. */
export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** Path parameters are written `{name}`, as in OpenAPI. */
  readonly path: `/${string}`
  readonly summary: string
  readonly access: Access
  readonly tier: RateTier
  /** Under what name each call is in the audit log; absent: only refusals are. */
  readonly audit?: AuditAction
  readonly query?: z.ZodObject
  /** JSON body; absent: the route takes none (an empty object is tolerated). */
  readonly body?: z.ZodType
  /** Bytes that the JSON body may have, where they are not the usual 1 MiB. */
  readonly maxBodyBytes?: number
  /** Raw request body instead of JSON. */
  readonly upload?: true
  readonly status?: 200 | 201 | 202
  readonly response?: z.ZodType
  /** The answer's kind when it is not one JSON document. */
  readonly stream?: Stream
  /** Finds a sandbox that was deleted too, so that the call can be repeated. */
  readonly seesDeleted?: true
  /** Served a second time at `/api/sandbox/…` for the caller's only sandbox. */
  readonly singleton?: true
}

type ParamNames<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}` ? Name | ParamNames<Rest> : never

type Params<R extends Route> = [ParamNames<R['path']>] extends [never] ? unknown : { params: Record<ParamNames<R['path']>, string> }

/** What a caller passes: only the parts that the route declares. */
export type RouteInput<R extends Route> = Params<R> &
  (R['query'] extends z.ZodType ? { query?: z.input<R['query']> } : unknown) &
  (R['body'] extends z.ZodType ? { body: z.input<R['body']> } : unknown)

/** What a handler receives: the same parts, parsed. */
export type RouteRequest<R extends Route> = Params<R> &
  (R['query'] extends z.ZodType ? { query: z.output<R['query']> } : unknown) &
  (R['body'] extends z.ZodType ? { body: z.output<R['body']> } : unknown)

export type RouteOutput<R extends Route> = R['response'] extends z.ZodType ? z.output<R['response']> : undefined

export const route = <const R extends Route>(definition: R): R => definition

/** The path of a route with its parameters filled in. */
export const routePath = (path: string, params: Record<string, string>): string =>
  path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(params[name] ?? ''))

/** The twin path of a sandbox route for the caller's only sandbox: `/api/sandboxes/{id}/exec` becomes `/api/sandbox/exec`. */
export const singletonPath = (path: string): string => path.replace('/api/sandboxes/{id}', '/api/sandbox')
