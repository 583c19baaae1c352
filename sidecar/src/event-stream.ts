// Sends a log to a caller as an event stream, at the caller's pace.
import type { ServerResponse } from 'node:http'
import type { EventLog } from './commands/event-log.ts'
import type { Call } from './router.ts'

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

/** Waits for a change, for the caller to leave, or for so long. */
export function changeOr(response: ServerResponse, change: Promise<void>, ms: number): Promise<'changed' | 'closed' | 'idle'> {
  return new Promise((resolve) => {
    const done = (why: 'changed' | 'closed' | 'idle'): void => {
      clearTimeout(timer)
      response.off('close', closed)
      resolve(why)
    }
    const closed = (): void => done('closed')
    const timer = setTimeout(() => done('idle'), ms)
    response.on('close', closed)
    void change.then(() => done('changed'))
  })
}

/** Sends everything after `after`, and what comes, until the log ends. Any number of callers may follow one log. */
export async function sendEvents(response: ServerResponse, log: EventLog, { after, pace }: { after: number; pace: Pace }): Promise<void> {
  beginEvents(response)
  const reader = log.attach(after)
  try {
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
