/** Tells everybody who waits that something has changed. Who wants to miss nothing asks for `next` before looking. */
export class ChangeSignal {
  #next = Promise.withResolvers<void>()

  /** Resolves at the next change. */
  get next(): Promise<void> {
    return this.#next.promise
  }

  notify(): void {
    const { resolve } = this.#next
    this.#next = Promise.withResolvers()
    resolve()
  }
}
