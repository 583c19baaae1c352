// A watch as an event stream, with a bound on what waits for a slow reader.
import type { WatchEvent } from '@atoll/protocol'
import { beginEvents, changeOr, type Pace, writeEvents } from '../event-stream.ts'
import type { Call } from '../router.ts'
import { fileFailure } from './file-failure.ts'
import type { Paths } from './paths.ts'
import { Watch } from './watch.ts'

const maxPending = 1000

const frame = (event: WatchEvent): string => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`

class Pending {
  #events: WatchEvent[] = []
  #isOverflown = false
  #change = Promise.withResolvers<void>()

  add(event: WatchEvent): void {
    if (this.#events.length >= maxPending) {
      this.#events = []
      this.#isOverflown = true
    }
    if (!this.#isOverflown) this.#events.push(event)
    this.#change.resolve()
  }

  changed(): Promise<void> {
    this.#change = Promise.withResolvers()
    return this.#change.promise
  }

  take(): WatchEvent[] {
    const events: WatchEvent[] = this.#isOverflown ? [{ type: 'overflow' }] : this.#events
    this.#events = []
    this.#isOverflown = false
    return events
  }
}

export async function sendChanges(paths: Paths, { query, response }: Call, pace: Pace): Promise<void> {
  const root = await paths.target(query.get('path') ?? '.')
  const pending = new Pending()
  const watch = new Watch({
    root,
    isRecursive: query.get('recursive') === 'true',
    emit: (event) => pending.add(event),
    onError: () => response.destroy(),
  })
  try {
    await watch.start().catch((error: unknown) => {
      throw fileFailure(error, root.path)
    })
    beginEvents(response)
    let text = frame({ type: 'ready' })
    while (await writeEvents(response, text, pace.stallMs)) {
      const change = pending.changed()
      const events = pending.take()
      text = events.map(frame).join('')
      if (events.length > 0) continue
      if ((await changeOr(response, change, pace.heartbeatMs)) === 'idle') text = ': keep-alive\n\n'
      else text = pending.take().map(frame).join('')
    }
  } finally {
    watch.close()
  }
}
