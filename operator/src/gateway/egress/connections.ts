import type { HeldPolicy } from './policy.ts'

/** Something that goes on between a sandbox and the world. */
export interface Live {
  readonly isAllowed: (policy: HeldPolicy) => boolean
  /** Ends it at once. May be called again. */
  readonly end: () => void
  /** Told when a change of the policy was why it ended. */
  readonly outlawed: () => void
}

/** What goes on between each sandbox and the world, so that a change of its policy, or its end, reaches it. */
export class Connections {
  readonly #live = new Map<string, Set<Live>>()

  /** Answers what takes it out again. */
  add(sandboxId: string, live: Live): () => void {
    const own = this.#live.get(sandboxId) ?? new Set()
    this.#live.set(sandboxId, own.add(live))
    return () => {
      own.delete(live)
      if (own.size === 0 && this.#live.get(sandboxId) === own) this.#live.delete(sandboxId)
    }
  }

  /** Ends what the policy does not allow. */
  hold(sandboxId: string, policy: HeldPolicy): void {
    for (const live of [...(this.#live.get(sandboxId) ?? [])]) {
      if (live.isAllowed(policy)) continue
      live.outlawed()
      live.end()
    }
  }

  end(sandboxId: string): void {
    for (const live of [...(this.#live.get(sandboxId) ?? [])]) live.end()
  }
}
