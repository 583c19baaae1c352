// How often callers may call: sliding windows of a minute, counted per client address, or per key for API keys.
import { Failure, type RateTier, type Route } from '@atoll/protocol'
import type { Caller } from '../auth/caller.ts'

/** `proxy`: what goes to programs behind sandbox ports. `key`: everything else that an API key does. */
export type LimitName = RateTier | 'proxy' | 'key'

export type PerMinute = Readonly<Record<LimitName, number>>

const defaultPerMinute: PerMinute = { read: 120, write: 30, interactive: 2400, auth: 10, proxy: 6000, key: 6000 }

export interface RateLimitOptions {
  readonly perMinute?: Partial<PerMinute>
  /** Nothing is counted; for benchmarks. */
  readonly off?: boolean
  /** Milliseconds of a clock that nobody sets; not the time of day. */
  readonly now?: () => number
  /** Told of every refusal. */
  readonly onRefused?: (limit: LimitName) => void
  /** Callers that are remembered at once; above it the one that was quiet longest is forgotten. */
  readonly maxWindows?: number
}

export interface CountedRequest {
  readonly route: Pick<Route, 'method' | 'path' | 'tier'>
  /** Bucket of the client's address. */
  readonly client: string
  readonly caller: Caller | undefined
}

const windowMs = 60_000
const slotMs = 1000
/** One slot more than the window has seconds, so that the window is never shorter than a minute. */
const slotCount = windowMs / slotMs + 1

export class RateLimiter {
  readonly #perMinute: PerMinute
  readonly #isOff: boolean
  readonly #now: () => number
  readonly #onRefused: (limit: LimitName) => void
  readonly #maxWindows: number
  /** The longest quiet first. */
  readonly #windows = new Map<string, Window>()

  constructor(options: RateLimitOptions = {}) {
    this.#perMinute = { ...defaultPerMinute, ...options.perMinute }
    this.#isOff = options.off ?? false
    this.#now = options.now ?? (() => performance.now())
    this.#onRefused = options.onRefused ?? (() => undefined)
    this.#maxWindows = options.maxWindows ?? 50_000
  }

  /** Callers that are remembered; grows with the clients of the last minute. */
  get size(): number {
    return this.#windows.size
  }

  /** @throws Failure `request.rate_limited` */
  count({ route, client, caller }: CountedRequest): void {
    if (caller?.via === 'key') {
      this.#take('key', caller.id)
      return
    }
    // Each step of a sign-in has a window of its own, so that the two requests of one sign-in count once.
    const who = route.tier === 'auth' ? `${route.method} ${route.path} ${client}` : client
    this.#take(route.tier, who)
  }

  /**
   * Counts a request to a program behind a port. Wallets cost nothing, so the owner of a session counts, not the session.
   * @throws Failure `request.rate_limited`
   */
  countProxied({ client, caller }: Omit<CountedRequest, 'route'>): void {
    const who = caller && (caller.via === 'key' ? caller.id : `owner ${caller.owner}`)
    this.#take('proxy', who ?? client)
  }

  #take(limit: LimitName, who: string): void {
    if (this.#isOff) return
    const now = this.#now()
    const name = `${limit} ${who}`
    const window = this.#windows.get(name) ?? new Window()
    // Written again so that the map's order is the order of use.
    this.#windows.delete(name)
    this.#windows.set(name, window)
    this.#prune(now)
    const waitMs = window.take(now, this.#perMinute[limit])
    if (waitMs === 0) return
    this.#onRefused(limit)
    throw new Failure('request.rate_limited', 'Rate limit exceeded', { retryAfterMs: waitMs })
  }

  #prune(now: number): void {
    for (const [name, window] of this.#windows) {
      if (this.#windows.size <= this.#maxWindows && now - window.lastTouchedAt < slotCount * slotMs) return
      this.#windows.delete(name)
    }
  }
}

/** Calls of the last minute, in slots of a second. */
class Window {
  lastTouchedAt = Number.POSITIVE_INFINITY
  readonly #slots = new Uint32Array(slotCount)
  #newest = 0
  #total = 0

  /** 0 when the call is within the limit and was counted; else the milliseconds until one will be. */
  take(now: number, limit: number): number {
    this.#advance(Math.floor(now / slotMs))
    this.lastTouchedAt = now
    if (this.#total < limit) {
      const slot = this.#newest % slotCount
      this.#slots[slot] = (this.#slots[slot] ?? 0) + 1
      this.#total += 1
      return 0
    }
    return Math.max(1, Math.ceil((this.#oldestUsed() + slotCount) * slotMs - now))
  }

  /** Empties the slots that time has passed over. A clock that goes back stays at the newest slot. */
  #advance(second: number): void {
    const steps = Math.min(Math.max(0, second - this.#newest), slotCount)
    for (let step = 0; step < steps; step += 1) {
      const slot = (second - step) % slotCount
      this.#total -= this.#slots[slot] ?? 0
      this.#slots[slot] = 0
    }
    this.#newest = Math.max(this.#newest, second)
  }

  #oldestUsed(): number {
    for (let second = this.#newest - slotCount + 1; second <= this.#newest; second += 1) {
      if ((this.#slots[second % slotCount] ?? 0) > 0) return second
    }
    return this.#newest
  }
}
