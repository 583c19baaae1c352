// What of a sandbox's wishes was denied, told to its owner as events: the same once in a while, and no more than the store can take.
import type { Logger } from 'pino'
import type { NewEvent } from '../sandboxes/store.ts'

export interface DeniedEventsParts {
  readonly appendEvent: (event: NewEvent) => Promise<void>
  readonly now: () => number
  readonly log: Logger
}

/** Events that a sandbox may cause at once, and how fast it may cause more. */
const burst = 200
const perMinute = 10
/** For so long the same denial is counted, and not told again. */
const sameMs = 60_000
const maxRemembered = 1000

interface Told {
  at: number
  /** The same ones since. */
  more: number
}

interface Book {
  credit: number
  at: number
  /** Denials of which nothing was told at all. */
  untold: number
  readonly told: Map<string, Told>
}

export class DeniedEvents {
  readonly #parts: DeniedEventsParts
  readonly #books = new Map<string, Book>()

  constructor(parts: DeniedEventsParts) {
    this.#parts = parts
  }

  /**
   * Writes the event, unless the sandbox causes so many that they would fill the store.
   * @param what by which two denials are the same
   * @param more told beside
   */
  tell(sandboxId: string, type: string, what: Readonly<Record<string, unknown>>, more: Readonly<Record<string, unknown>> = {}): void {
    const book = this.#bookOf(sandboxId)
    const key = JSON.stringify([type, what])
    const before = book.told.get(key)
    if (before && this.#parts.now() - before.at < sameMs) return void before.more++
    if (book.credit < 1) return void book.untold++
    book.credit -= 1
    const counts = { ...(before && before.more > 0 && { repeated: before.more }), ...(book.untold > 0 && { untold: book.untold }) }
    book.untold = 0
    if (book.told.size >= maxRemembered) book.told.clear()
    book.told.set(key, { at: this.#parts.now(), more: 0 })
    this.#parts.appendEvent({ type, sandboxId, data: { ...what, ...more, ...counts } }).catch((error: unknown) => {
      this.#parts.log.error({ sandboxId, err: error }, 'something that was denied could not be written down')
    })
  }

  forget(sandboxId: string): void {
    this.#books.delete(sandboxId)
  }

  #bookOf(sandboxId: string): Book {
    const now = this.#parts.now()
    const book = this.#books.get(sandboxId) ?? { credit: burst, at: now, untold: 0, told: new Map<string, Told>() }
    book.credit = Math.min(burst, book.credit + ((now - book.at) / 60_000) * perMinute)
    book.at = now
    this.#books.set(sandboxId, book)
    return book
  }
}
