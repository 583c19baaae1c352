// Ends of the terminals that only the sidecar may have. The library that opens them does not mark them to be closed in children, and Node
// cannot: so whatever is started finds something harmless under their numbers.
import type { StdioOptions } from 'node:child_process'
import { openSync } from 'node:fs'

export class Masters {
  readonly #open = new Set<{ readonly descriptor: number }>()
  #nothing: number | undefined

  /** Until the answer is called, which may be after the descriptor was closed and its number taken again. */
  add(descriptor: number): () => void {
    const one = { descriptor }
    this.#open.add(one)
    return () => void this.#open.delete(one)
  }

  get descriptors(): readonly number[] {
    return [...new Set([...this.#open].map(({ descriptor }) => descriptor))].sort((one, other) => one - other)
  }

  /** The standard streams of a spawn, and the null device in place of every master. */
  covered(stdio: readonly (number | 'pipe' | 'ignore')[]): StdioOptions {
    const all: (number | 'pipe' | 'ignore')[] = [...stdio]
    for (const descriptor of this.descriptors) {
      this.#nothing ??= openSync('/dev/null', 'r+')
      while (all.length < descriptor) all.push('ignore')
      all[descriptor] = this.#nothing
    }
    return all
  }
}
