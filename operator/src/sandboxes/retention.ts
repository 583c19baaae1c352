// Forgets what has been over for long, so that an operator that runs for years does not grow with all it ever did.
import type { Logger } from 'pino'
import type { Forgetful } from './store.ts'

export interface RetentionParts {
  readonly store: Forgetful
  readonly eventDays: number
  readonly endedDays: number
  readonly now: () => number
  readonly log: Logger
}

const dayMs = 86_400_000
const pauseMs = 3_600_000
const eventsPerOwner = 100_000

export class Retention {
  readonly #parts: RetentionParts
  #lastAt = Number.NEGATIVE_INFINITY

  constructor(parts: RetentionParts) {
    this.#parts = parts
  }

  /** Forgets what is due, once in an hour. */
  async round(): Promise<void> {
    const { store, eventDays, endedDays, now, log } = this.#parts
    if (Math.abs(now() - this.#lastAt) < pauseMs) return
    this.#lastAt = now()
    const due = { eventsBefore: now() - eventDays * dayMs, endedBefore: now() - endedDays * dayMs, eventsPerOwner }
    let sum = 0
    for (let count = await store.forget(due); count > 0; count = await store.forget(due)) {
      sum += count
      // Requests come in between.
      await new Promise(setImmediate)
    }
    if (sum > 0) log.info({ rows: sum }, 'forgot what has been over for long')
  }
}
