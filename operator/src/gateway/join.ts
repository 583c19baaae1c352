import type { Duplex, Readable, Writable } from 'node:stream'
import { Failure } from '@atoll/protocol'

/** Joins two connections until both have said everything, or one breaks. Each side's end is passed on as such. */
export function join(one: Duplex, other: Duplex): void {
  one.pipe(other)
  other.pipe(one)
  tie(one, other)
  tie(other, one)
}

/** When one is closed, so is the other: after what was said to it has arrived, or at once if that is not all of it. */
export function tie(one: Duplex, other: Duplex): void {
  const closed = (): void => {
    if (!one.readableEnded || other.destroyed) return void other.destroy()
    if (other.writableFinished) return void other.destroy()
    other.end(() => other.destroy())
  }
  one.on('error', () => one.destroy())
  if (one.destroyed) closed()
  else one.once('close', closed)
}

/** Aborted when whoever asked is gone. */
export function leavingOf(asker: Readable | Writable): AbortSignal {
  const leaving = new AbortController()
  const gone = (): void => leaving.abort(new Failure('upstream.unreachable', 'The sandbox went away.'))
  if (asker.closed) gone()
  else asker.once('close', gone)
  return leaving.signal
}
