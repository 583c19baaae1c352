import type { IncomingMessage } from 'node:http'
import type { Route } from '@atoll/protocol'
import type { Caller } from '../auth/caller.ts'
import type { AddressReader } from './client-address.ts'
import type { RateLimiter } from './rate-limit.ts'

/** Counts requests against the limits of whoever sends them. Every method throws Failure `request.rate_limited`. */
export class RateLimits {
  readonly #limiter: RateLimiter
  readonly #addressOf: AddressReader

  constructor(parts: { limiter: RateLimiter; addressOf: AddressReader }) {
    this.#limiter = parts.limiter
    this.#addressOf = parts.addressOf
  }

  count(route: Pick<Route, 'method' | 'path' | 'tier'>, incoming: IncomingMessage, caller: Caller | undefined): void {
    this.#limiter.count({ route, client: this.#addressOf(incoming), caller })
  }

  countProxied(incoming: IncomingMessage, caller: Caller | undefined): void {
    this.#limiter.countProxied({ client: this.#addressOf(incoming), caller })
  }

  /** Bucket of the client's address. */
  clientOf(incoming: IncomingMessage): string {
    return this.#addressOf(incoming)
  }
}
