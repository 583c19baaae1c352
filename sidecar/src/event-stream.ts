// Sends a log to a caller as an event stream, at the caller's pace.
import type { ServerResponse } from 'node:http'
import type { Call } from './router.ts'

/** How far one reader has got. What it holds in its hands is not taken yet. A spectator is waited for by nobody: it gets gaps instead. */
export interface Reader {
  readonly isSpectator: boolean
  position: number
  inHand: number
}

/** Numbered events that readers follow, each at its own pace. */
export interface Feed {
  /** Nothing comes any more. */
  readonly isEnded: boolean
  /** Nothing is left either. */
  readonly isRemoved: boolean
  /** A reader that has everything up to and including `after`. */
  attach(after: number, isSpectator?: boolean): Reader
  detach(reader: Reader): void
  /** The next frames of a reader, who with this call says that it is done with the ones before; undefined when it has all. */
  take(reader: Reader): Promise<Buffer | undefined> | Buffer | undefined
  /** Resolves at the next event, or at the end. */
  changed(): Promise<void>
}

/** One event as it travels. */
export const frame = (seq: number, event: string, data: object): Buffer =>
  Buffer.from(`id: ${seq}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`)

export interface Pace {
  readonly heartbeatMs: number
  /** A caller that takes nothing for so long is disconnected. */
  readonly stallMs: number
}

const headers = { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' } as const

/** The last event that a caller has: its cursor, or the header that a reconnecting browser sends; undefined when it has none. */
export function cursorOf({ query, request }: Pick<Call, 'query' | 'request'>): number | undefined {
  const text = query.get('cursor') ?? request.headers['last-event-id']
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

/** Said by the operator of callers that may only look. */
export const isSpectator = ({ query }: Pick<Call, 'query'>): boolean => query.get('spectator') === 'true'

export function beginEvents(response: ServerResponse): void {
  response.writeHead(200, headers)
  response.flushHeaders()
}

/** Writes, and resolves when the caller can take more: true; false when it has left or stalled. */
export function writeEvents(response: ServerResponse, frames: Buffer | string, stallMs: number): Promise<boolean> {
  if (response.destroyed) return Promise.resolve(false)
  if (response.write(frames)) return Promise.resolve(true)
  return new Promise((resolve) => {
    const done = (canGoOn: boolean): void => {
      clearTimeout(timer)
      response.off('drain', drained).off('close', closed)
      resolve(canGoOn)
    }
    const drained = (): void => done(true)
    const closed = (): void => done(false)
    const timer = setTimeout(() => {
      response.destroy()
      done(false)
    }, stallMs)
    response.on('drain', drained).on('close', closed)
  })
}

/** A caller's end of a stream, whatever it travels on. */
interface Closable {
  on(event: 'close', listener: () => void): unknown
  off(event: 'close', listener: () => void): unknown
}

/** Waits for a change, for the caller to leave, or for so long. */
export function changeOr(caller: Closable, change: Promise<void>, ms: number): Promise<'changed' | 'closed' | 'idle'> {
  return new Promise((resolve) => {
    const done = (why: 'changed' | 'closed' | 'idle'): void => {
      clearTimeout(timer)
      caller.off('close', closed)
      resolve(why)
    }
    const closed = (): void => done('closed')
    const timer = setTimeout(() => done('idle'), ms)
    caller.on('close', closed)
    void change.then(() => done('changed'))
  })
}

export interface Following {
  readonly after: number
  readonly isSpectator?: boolean
  readonly pace: Pace
}

/** Sends everything after `after`, and what comes, until the log ends. Any number of callers may follow one log. */
export async function sendEvents(response: ServerResponse, log: Feed, { after, isSpectator, pace }: Following): Promise<void> {
  // Before the answer begins: a log that cannot be read is a refusal.
  const reader = log.attach(after, isSpectator)
  try {
    beginEvents(response)
    while (!response.destroyed) {
      const change = log.changed()
      const frames = await log.take(reader)
      if (frames) {
        if (!(await writeEvents(response, frames, pace.stallMs))) return
        continue
      }
      if (log.isRemoved) return void response.destroy()
      if (log.isEnded) return void response.end()
      if ((await changeOr(response, change, pace.heartbeatMs)) !== 'idle') continue
      if (!(await writeEvents(response, ': keep-alive\n\n', pace.stallMs))) return
    }
  } finally {
    log.detach(reader)
  }
}
