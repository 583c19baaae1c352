import type { Store } from './store.ts'

/** How stale the stored time of the last activity may be. */
const resolutionMs = 5000

/** Remembers when each sandbox was last used, without a write per request. An open stream counts until it is closed. */
export class Activity {
  readonly #store: Store
  readonly #now: () => number
  readonly #written = new Map<string, number>()
  readonly #open = new Map<string, number>()

  constructor(store: Store, now: () => number) {
    this.#store = store
    this.#now = now
  }

  /** The sandbox is used at this moment. */
  async touch(id: string): Promise<void> {
    const at = this.#now()
    if (at - (this.#written.get(id) ?? 0) < resolutionMs) return
    this.#written.set(id, at)
    await this.#store.touch(id, at)
  }

  /** The sandbox is in use until the answer is called. */
  hold(id: string): () => Promise<void> {
    this.#open.set(id, (this.#open.get(id) ?? 0) + 1)
    let isHeld = true
    return async () => {
      if (!isHeld) return
      isHeld = false
      const left = (this.#open.get(id) ?? 1) - 1
      if (left > 0) this.#open.set(id, left)
      else this.#open.delete(id)
      this.#written.delete(id)
      await this.touch(id)
    }
  }

  isHeld(id: string): boolean {
    return this.#open.has(id)
  }

  forget(id: string): void {
    this.#written.delete(id)
  }
}
