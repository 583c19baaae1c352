// Model calls that were refused, told to the owner as events: the same one of a sandbox once in a while, however often it is asked.
import type { Failure, FailureCode } from '@atoll/protocol'
import type { Logger } from 'pino'
import type { NewEvent } from '../sandboxes/store.ts'
import type { Caller } from './caller.ts'

export interface ModelDenialsParts {
  readonly appendEvent: (event: NewEvent) => Promise<void>
  readonly now: () => number
  readonly log: Logger
}

const sameMs = 60_000
const maxRemembered = 10_000

/** What the policy of a service refuses; the rest is a mistake of the caller's, or a provider that is down. */
const denials = new Set<FailureCode>([
  ...(['provider.key_missing', 'provider.login_expired', 'provider.path_refused', 'provider.model_refused'] as const),
  ...(['budget.spent', 'budget.unpriced', 'service.not_found'] as const),
])

export class ModelDenials {
  readonly #parts: ModelDenialsParts
  readonly #toldAt = new Map<string, number>()

  constructor(parts: ModelDenialsParts) {
    this.#parts = parts
  }

  tell({ sandboxId }: Caller, { code }: Failure): void {
    if (!denials.has(code)) return
    const key = `${sandboxId} ${code}`
    const now = this.#parts.now()
    if (now - (this.#toldAt.get(key) ?? Number.NEGATIVE_INFINITY) < sameMs) return
    if (this.#toldAt.size >= maxRemembered) this.#toldAt.clear()
    this.#toldAt.set(key, now)
    this.#parts.appendEvent({ type: 'model.denied', sandboxId, data: { code } }).catch((error: unknown) => {
      this.#parts.log.error({ sandboxId, err: error }, 'a refused model call could not be written down')
    })
  }
}
