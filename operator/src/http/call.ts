// What a handler gets, and how an answer goes out.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Route, RouteOutput, RouteRequest } from '@atoll/protocol'
import type { HttpBindings } from '@hono/node-server'
import type { Hono } from 'hono'
import type { Caller } from '../auth/caller.ts'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import type { Note } from './trail.ts'

export interface Bindings {
  Bindings: HttpBindings
  Variables: { requestId: string; path: string }
}
export type App = Hono<Bindings>

/** Everything about one request; parts that a route does not have are undefined, which its types say. */
export interface Call<R extends Route> {
  readonly request: RouteRequest<R>
  readonly caller: R['access'] extends 'public' ? Caller | undefined : Caller
  readonly sandbox: R['path'] extends `${string}{id}${string}` ? SandboxRecord : undefined
  readonly requestId: string
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
  /** Tells the audit log what the request does not say. */
  readonly note: (note: Note) => void
  /** Answers with another status than the route's usual one. */
  readonly setStatus: (status: number) => void
}

/** A handler of a streaming route writes to `outgoing` itself and resolves when it is done. */
export type Handler<R extends Route> = (call: Call<R>) => Promise<R extends { stream: string } ? void : RouteOutput<R>>

/** One handler for each route of a group. */
export type Handlers<Group extends Readonly<Record<string, Route>>> = { readonly [Name in keyof Group]: Handler<Group[Name]> }
