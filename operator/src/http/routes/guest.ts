// Routes that the sidecar answers: the operator decides who may, and passes bytes on.
import { Failure, type fileRoutes, type portRoutes, portText, type processRoutes, type terminalRoutes } from '@atoll/protocol'
import type { RunRequest } from '@atoll/protocol/sidecar'
import type { Caller } from '../../auth/caller.ts'
import type { Handlers } from '../call.ts'
import { caller, cursorOf, type GuestCalls, query, streamer } from '../guest-calls.ts'
import type { Previews } from '../preview.ts'
import type { View } from '../view.ts'

export interface GuestParts extends GuestCalls {
  readonly previews: Previews
  readonly view: View
}

const defaultExecMs = 30_000
/** The sidecar ends a command at its time-out; this much later the operator stops waiting for the answer. */
const graceMs = 15_000

/** Who may only look must not hold anything up by looking too slowly. */
const spectating = ({ scope }: Caller): { spectator?: string } => (scope === 'read' ? { spectator: 'true' } : {})

const runRequest = (body: {
  command?: string | undefined
  argv?: readonly string[] | undefined
  cwd: string
  env_json: Readonly<Record<string, string>>
  stdin?: string | undefined
  timeout_ms: number
}): RunRequest => ({
  ...(body.command !== undefined && { command: body.command }),
  ...(body.argv && { argv: body.argv }),
  ...(body.cwd !== '' && { cwd: body.cwd }),
  env: body.env_json,
  ...(body.stdin !== undefined && { stdin: body.stdin }),
  timeout_ms: body.timeout_ms,
})

export function processHandlers(parts: GuestParts): Handlers<typeof processRoutes> {
  const call = caller(parts)
  const stream = streamer(parts)
  const at = (pid: string): string => `/processes/${encodeURIComponent(pid)}`
  return {
    exec: ({ sandbox, request: { body }, signal }) => {
      const timeoutMs = body.timeout_ms === 0 ? defaultExecMs : body.timeout_ms
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs + graceMs)])
      return call(sandbox, { method: 'POST', path: '/exec', body: runRequest({ ...body, timeout_ms: timeoutMs }), signal: deadline })
    },
    start: ({ sandbox, request: { body } }) => call(sandbox, { method: 'POST', path: '/processes', body: runRequest(body) }),
    list: ({ sandbox }) => call(sandbox, { method: 'GET', path: '/processes' }),
    get: ({ sandbox, request: { params } }) => call(sandbox, { method: 'GET', path: at(params.pid) }),
    events: ({ sandbox, caller: who, request: { params, query: asked }, incoming, outgoing, signal }) => {
      const cursor = cursorOf(asked.cursor, incoming.headers['last-event-id'])
      return stream(sandbox, { method: 'GET', path: `${at(params.pid)}/events${query({ cursor, ...spectating(who) })}`, signal }, outgoing)
    },
    stdin: ({ sandbox, request: { params, query: asked }, incoming, signal }) =>
      call(sandbox, { method: 'POST', path: `${at(params.pid)}/stdin${query(asked)}`, body: incoming, signal }),
    signal: ({ sandbox, request: { params, body } }) => call(sandbox, { method: 'POST', path: `${at(params.pid)}/signal`, body }),
    remove: ({ sandbox, request: { params } }) => call(sandbox, { method: 'DELETE', path: at(params.pid) }),
  }
}

export function terminalHandlers(parts: GuestParts): Handlers<typeof terminalRoutes> {
  const call = caller(parts)
  const stream = streamer(parts)
  const at = (sid: string): string => `/terminals/${encodeURIComponent(sid)}`
  return {
    list: ({ sandbox }) => call(sandbox, { method: 'GET', path: '/terminals' }),
    open: ({ sandbox, request: { body } }) => {
      const { env_json: env, ...rest } = body
      return call(sandbox, { method: 'POST', path: '/terminals', body: { ...rest, env } })
    },
    stream: ({ sandbox, caller: who, request: { params, query: asked }, incoming, outgoing, signal }) => {
      const cursor = cursorOf(asked.cursor, incoming.headers['last-event-id'])
      return stream(sandbox, { method: 'GET', path: `${at(params.sid)}/stream${query({ cursor, ...spectating(who) })}`, signal }, outgoing)
    },
    // The handshake itself is taken by the server's upgrade listener; a plain GET comes here.
    socket: async () => {
      throw new Failure('request.invalid', 'This route is a WebSocket. Connect with ws:// or wss://.')
    },
    resize: ({ sandbox, request: { params, body } }) => call(sandbox, { method: 'PATCH', path: at(params.sid), body }),
    input: ({ sandbox, request: { params, body } }) => call(sandbox, { method: 'POST', path: `${at(params.sid)}/input`, body }),
    close: ({ sandbox, request: { params } }) => call(sandbox, { method: 'DELETE', path: at(params.sid) }),
  }
}

export function fileHandlers(parts: GuestParts): Handlers<typeof fileRoutes> {
  const call = caller(parts)
  const stream = streamer(parts)
  return {
    list: ({ sandbox, request }) => call(sandbox, { method: 'GET', path: `/files${query(request.query)}` }),
    stat: ({ sandbox, request }) => call(sandbox, { method: 'GET', path: `/files/stat${query(request.query)}` }),
    download: ({ sandbox, request, incoming, outgoing, signal }) => {
      const { range } = incoming.headers
      return stream(
        sandbox,
        { method: 'GET', path: `/files/content${query(request.query)}`, headers: range ? { range } : {}, signal },
        outgoing,
      )
    },
    upload: ({ sandbox, request, incoming, signal }) =>
      call(sandbox, { method: 'PUT', path: `/files/content${query(request.query)}`, body: incoming, signal }),
    mkdir: ({ sandbox, request: { body } }) => call(sandbox, { method: 'POST', path: '/files/mkdir', body }),
    move: ({ sandbox, request: { body } }) => call(sandbox, { method: 'POST', path: '/files/move', body }),
    remove: ({ sandbox, request }) => call(sandbox, { method: 'DELETE', path: `/files${query(request.query)}` }),
    watch: ({ sandbox, request, outgoing, signal }) =>
      stream(sandbox, { method: 'GET', path: `/files/watch${query(request.query)}`, signal }, outgoing),
  }
}

export function portHandlers(parts: GuestParts): Handlers<typeof portRoutes> {
  const call = caller(parts)
  return {
    list: async ({ sandbox }) => {
      const isRunning = sandbox.state === 'running'
      const seen: { listening: number[] } = isRunning ? await call(sandbox, { method: 'GET', path: '/ports' }) : { listening: [] }
      return { ports: parts.view.ports(sandbox), listening: seen.listening }
    },
    preview: async ({ sandbox, request: { params, body } }) => {
      if (!portText.test(params.port) || Number(params.port) > 65_535) {
        throw new Failure('port.invalid', 'A port is written as a number from 1 to 65535, without sign or leading zero.')
      }
      return parts.previews.link(sandbox, Number(params.port), body.ttl_seconds)
    },
  }
}
