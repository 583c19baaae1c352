// How the gateway says no. Its callers expect the shapes of many providers, so one body has what each of their clients looks for.
import http, { type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { Failure } from '@atoll/protocol'

const bodyOf = (failure: Failure): string =>
  JSON.stringify({
    type: 'error',
    error: { type: failure.code, code: failure.code, status: failure.code, message: failure.message },
    ...(failure.retryAfterMs !== undefined && { retry_after_ms: failure.retryAfterMs }),
  })

const headersOf = (failure: Failure, body: string): Record<string, string | number> => ({
  'content-type': 'application/json',
  'content-length': Buffer.byteLength(body),
  // A client that would try again for minutes is told not to.
  'x-should-retry': failure.retryAfterMs === undefined ? 'false' : 'true',
  ...(failure.retryAfterMs !== undefined && { 'retry-after': Math.ceil(failure.retryAfterMs / 1000) }),
  'x-atoll-refused': failure.code,
})

/** Half an answer is cut off, so that it does not look whole. What is left of the request is read and forgotten. */
export function refuse(response: ServerResponse, failure: Failure): void {
  if (response.headersSent || response.destroyed) return void response.destroy()
  const body = bodyOf(failure)
  try {
    // With its own words: what was to be said before may be in the response still, and be what cannot be said.
    response.writeHead(failure.status, http.STATUS_CODES[failure.status] ?? 'Error', headersOf(failure, body))
    response.end(body)
  } catch {
    response.destroy()
  }
}

/** How long somebody who still sends may take to see the answer; to close at once would take it back. */
const lingerMs = 10_000

export function refuseSocket(socket: Duplex, failure: Failure): void {
  const body = bodyOf(failure)
  const lines = Object.entries({ ...headersOf(failure, body), connection: 'close' }).map(([name, value]) => `${name}: ${value}`)
  const status = `HTTP/1.1 ${failure.status} ${http.STATUS_CODES[failure.status] ?? 'Error'}`
  socket.end(`${[status, ...lines].join('\r\n')}\r\n\r\n${body}`)
  socket.on('error', () => socket.destroy())
  socket.resume()
  socket.once('end', () => socket.destroy())
  setTimeout(() => socket.destroy(), lingerMs).unref()
}

/** What a sandbox may see of anything thrown. */
export const refusalOf = (thrown: unknown): Failure =>
  thrown instanceof Failure && thrown.code !== 'internal'
    ? thrown
    : new Failure('internal', 'The gateway failed unexpectedly; the log of the operator has the reason.', { cause: thrown })
