import type { EventLog } from './event-log.ts'

/** What all logs of the sandbox may take on disk together. */
export class LogBudget {
  readonly #maxBytes: number
  readonly #logs = new Set<EventLog>()
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** A log that has grown, or given room back when negative. */
  grow(bytes: number): void {
    this.#bytes += bytes
  }

  add(log: EventLog): void {
    this.#logs.add(log)
  }

  delete(log: EventLog): void {
    this.#logs.delete(log)
    this.checkRoom()
  }

  /** Drops the oldest parts, of the logs that began first, until `bytes` more fit or nothing is left that may be dropped. */
  makeRoom(bytes: number): void {
    for (const log of this.#logs) {
      while (this.#bytes + bytes > this.#maxBytes && log.canDrop) log.dropOldest()
      if (this.#bytes + bytes <= this.#maxBytes) return
    }
  }

  get isFull(): boolean {
    return this.#bytes >= this.#maxBytes && [...this.#logs].every((log) => !log.canDrop)
  }

  checkRoom(): void {
    for (const log of this.#logs) log.checkRoom()
  }
}
