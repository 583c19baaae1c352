// What happens again and again is counted, so that nobody fills the log.
import type { Happening } from './happening.ts'

export interface RepeatsParts {
  readonly now: () => number
  /** How long the same is counted and not told: what was done, and what was refused. */
  readonly doneMs: number
  readonly refusedMs: number
  /** Things that are told apart at once; above it, refusals of everybody are one. */
  readonly most: number
}

interface Window {
  readonly happening: Happening
  until: number
  more: number
}

export class Repeats {
  readonly #parts: RepeatsParts
  readonly #windows = new Map<string, Window>()

  constructor(parts: RepeatsParts) {
    this.#parts = parts
  }

  /** Things that are being counted. */
  get size(): number {
    return this.#windows.size
  }

  /** What is to be written down of it; undefined: it is counted, and told later. */
  take(happening: Happening): Happening | undefined {
    const own = keyOf(happening)
    const isCrowded = this.#windows.size >= this.#parts.most && !this.#windows.has(own)
    const told = isCrowded ? crowdOf(happening) : happening
    const key = isCrowded ? keyOf(told) : own
    const window = this.#windows.get(key)
    if (window) {
      window.more += 1
      return undefined
    }
    this.#windows.set(key, { happening: told, until: this.#endOf(told), more: 0 })
    return told
  }

  /** What was counted for long enough; all of it when the operator stops. */
  due(isAll = false): { readonly happening: Happening; readonly count: number }[] {
    const now = this.#parts.now()
    const due: { happening: Happening; count: number }[] = []
    for (const [key, window] of this.#windows) {
      // A clock that was set back ends a window too.
      if (!isAll && window.until > now && window.until - now <= this.#parts.refusedMs) continue
      if (window.more === 0) this.#windows.delete(key)
      else {
        due.push({ happening: window.happening, count: window.more })
        window.more = 0
        window.until = this.#endOf(window.happening)
      }
    }
    return due
  }

  #endOf({ outcome }: Happening): number {
    return this.#parts.now() + (outcome === 'ok' ? this.#parts.doneMs : this.#parts.refusedMs)
  }
}

const keyOf = ({ actor, action, subject, outcome, client }: Happening): string =>
  // Of somebody unknown neither what was asked for nor how counts, or guessing would tell itself apart.
  JSON.stringify(actor.via === 'none' ? [actor.via, outcome, client] : [actor.owner, actor.via, actor.id, action, subject, outcome, client])

const crowdOf = ({ action, outcome, owner }: Happening): Happening => {
  const crowd = { actor: { owner: '', via: 'none' as const, id: '' }, subject: '', client: 'several', detail: {} }
  return outcome === 'ok' ? { ...crowd, action, outcome, owner } : { ...crowd, action: 'access.denied', outcome, owner: '' }
}
