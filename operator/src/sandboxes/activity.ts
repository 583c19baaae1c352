import type { Store } from './store.ts'

/** How stale the stored time of the last activity may be, which counts only when the operator starts again. */
const resolutionMs = 5000

/**
 * Remembers when each sandbox was last used, without a write per request: whatever its sidecar is asked for counts, a look at its record
 * does not. An open stream counts until it is closed.
 */
export class Activity {
  readonly #store: Store
  readonly #now: () => number
  readonly #written = new Map<string, number>()
  readonly #used = new Map<string, number>()
  readonly #open = new Map<string, number>()

  constructor(store: Store, now: () => number) {
    this.#store = store
    this.#now = now
  }

  /** The sandbox is used at this moment. */
  async touch(id: string): Promise<void> {
    const at = this.#now()
    this.#used.set(id, at)
    if (at - (this.#written.get(id) ?? 0) < resolutionMs) return
    this.#written.set(id, at)
    try {
      await this.#store.touch(id, at)
    } catch {
      // A full disk must not take the answer with it: the time is known here, and is written at the next use.
      this.#written.delete(id)
    }
  }

  /** The sandbox is in use until the answer is called. */
  hold(id: string): () => Promise<void> {
    this.#open.set(id, (this.#open.get(id) ?? 0) + 1)
    // Begins with the write, so that whoever finds the sandbox idle just now sees that it is not.
    void this.touch(id)
    let isHeld = true
    return async () => {
      if (!isHeld) return
      isHeld = false
      const left = (this.#open.get(id) ?? 1) - 1
      if (left > 0) this.#open.set(id, left)
      else this.#open.delete(id)
      await this.touch(id)
    }
  }

  /** When it was last used since the operator started, in unix milliseconds; 0 when it was not. */
  usedAt(id: string): number {
    return this.#used.get(id) ?? 0
  }

  isHeld(id: string): boolean {
    return this.#open.has(id)
  }

  /** Forgets what is not among these any more. */
  keepOnly(ids: ReadonlySet<string>): void {
    for (const known of [this.#written, this.#used]) {
      for (const id of known.keys()) if (!ids.has(id)) known.delete(id)
    }
  }
}
