// Ways to answer that are not one JSON document.
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { Failure, toFailure } from '@atoll/protocol'
import type { Logger } from 'pino'
import type { GuestAnswer } from '../sandboxes/guest.ts'

/** What a failure needs of the place that it is written to. */
export interface FailureSink {
  readonly headersSent: boolean
  writeHead(status: number, headers: Record<string, string>): unknown
  end(text: string): unknown
  destroy(): unknown
}

/** The one place where a failure becomes an answer. */
export function sendFailure(outgoing: FailureSink, thrown: unknown, log: Logger): void {
  const failure = toFailure(thrown)
  if (failure.status >= 500) log[failure.code === 'internal' ? 'error' : 'warn']({ code: failure.code, err: thrown }, 'request failed')
  if (outgoing.headersSent) {
    // Half an answer must not look like a whole one.
    outgoing.destroy()
    return
  }
  const retry = failure.retryAfterMs
  outgoing.writeHead(failure.status, {
    'content-type': 'application/json',
    ...(retry !== undefined && { 'retry-after': String(Math.ceil(retry / 1000)) }),
    ...(failure.status === 413 && { connection: 'close' }),
  })
  outgoing.end(JSON.stringify(failure))
}

/** Emitted by an answer that goes on at its reader's pace from here: it is no request in flight any more. */
export const streamBegins = Symbol('stream begins')

/** Headers of an event stream; proxies in between must not collect it. */
export const eventStreamHeaders = { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' } as const

const passedOn = ['content-type', 'content-length', 'content-range', 'accept-ranges', 'etag', 'last-modified']

/** Passes a sidecar's answer on as it comes, at the pace of the client. */
export async function passOn(answer: GuestAnswer, outgoing: ServerResponse): Promise<void> {
  const isEvents = answer.headers['content-type']?.startsWith('text/event-stream') ?? false
  const headers = Object.fromEntries(passedOn.flatMap((name) => (answer.headers[name] === undefined ? [] : [[name, answer.headers[name]]])))
  outgoing.writeHead(answer.status, isEvents ? eventStreamHeaders : headers)
  outgoing.flushHeaders()
  outgoing.emit(streamBegins)
  await pipeline(answer.body, outgoing).catch((error: NodeJS.ErrnoException) => {
    // A client that leaves, or a sandbox that ends, breaks the stream; both see it, and the client resumes by its cursor.
    if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE' && error.code !== 'ECONNRESET' && error.name !== 'AbortError') {
      throw new Failure('sandbox.unreachable', 'The stream from the sandbox broke off.', { cause: error })
    }
    outgoing.destroy()
  })
}

const heartbeatMs = 10_000

export interface EventStream {
  /** Writes one event; resolves when the client can take more. Without an id, who comes back goes on from an earlier one. */
  send(event: { readonly id?: number | string | undefined; readonly event: string; readonly data: object }): Promise<void>
  /** Until `wake` is called, the stream ends, or so long. */
  sleep(ms?: number): Promise<void>
  wake(): void
  isOpen(): boolean
  close(): void
}

/** An event stream that the operator writes itself, with heartbeats. */
export function eventStream(outgoing: ServerResponse, signal: AbortSignal): EventStream {
  let isAwake = false
  let rouse = (): void => undefined
  const wake = (): void => {
    isAwake = true
    rouse()
  }
  signal.addEventListener('abort', wake, { once: true })
  outgoing.writeHead(200, eventStreamHeaders)
  outgoing.flushHeaders()
  outgoing.emit(streamBegins)
  const heartbeat = setInterval(() => outgoing.write(': keep-alive\n\n'), heartbeatMs)
  return {
    send: async ({ id, event, data }) => {
      const hasRoom = outgoing.write(`${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
      if (!hasRoom && !signal.aborted) await once(outgoing, 'drain', { signal }).catch(() => undefined)
    },
    sleep: async (ms) => {
      if (!isAwake && !signal.aborted) {
        const timer = ms === undefined ? undefined : setTimeout(() => rouse(), ms)
        await new Promise<void>((resolve) => {
          rouse = resolve
        })
        clearTimeout(timer)
      }
      isAwake = false
    },
    wake,
    isOpen: () => !signal.aborted,
    close: () => {
      clearInterval(heartbeat)
      signal.removeEventListener('abort', wake)
      outgoing.end()
    },
  }
}
