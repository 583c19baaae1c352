// What services use of models: counted as it happens, checked against their quotas, written down together.
import { Failure, type ServiceQuotas } from '@atoll/protocol'
import type { Logger } from 'pino'
import type { Caller } from './caller.ts'

/** Sums of calls. `tokens` are those of every kind. */
export interface Totals {
  requests: number
  tokens: number
  /** US dollars, of those that have a price. */
  spend: number
}

/** What one or more calls have used. */
export interface UsageEntry {
  /** UTC, as 2026-01-31. */
  readonly day: string
  readonly serviceId: number
  readonly sandboxId: string
  readonly owner: string
  /** Empty: not of an agent's run. */
  readonly runId: string
  readonly provider: string
  /** Empty: the answer did not say. */
  readonly model: string
  readonly requests: number
  /** Calls that the provider refused or that came to no end. */
  readonly failed: number
  /** Calls whose tokens are reckoned from sizes, since the answer did not say them. */
  readonly estimated: number
  readonly input: number
  readonly output: number
  readonly cached: number
  readonly costUsd: number
  /** Tokens without a price. */
  readonly unpriced: number
}

/** A day's totals of a service grow by so much. */
export interface TotalsChange extends Totals {
  readonly day: string
  readonly serviceId: number
}

export interface UsageStore {
  totals(serviceId: number, day: string): Promise<Totals>
  /** One transaction. `entries` count towards nothing but themselves; the totals are told apart, since they are counted earlier. */
  add(changes: { readonly totals: readonly TotalsChange[]; readonly entries: readonly UsageEntry[]; readonly at: number }): Promise<void>
}

export interface LedgerParts {
  readonly store: UsageStore
  readonly now: () => number
  readonly log: Logger
}

/** How long what was used may wait to be written down with more. */
const flushMs = 20
/** Runs of one sandbox in a day that are told apart, so that nobody fills the store with names. */
const maxRuns = 1000

const dayOf = (at: number): string => new Date(at).toISOString().slice(0, 10)

export class Ledger {
  readonly #parts: LedgerParts
  readonly #totals = new Map<string, Promise<Totals>>()
  readonly #runs = new Map<string, Set<string>>()
  #day = ''
  #pendingTotals: TotalsChange[] = []
  #pendingEntries: UsageEntry[] = []
  #flushing: Promise<void> | undefined

  constructor(parts: LedgerParts) {
    this.#parts = parts
  }

  /**
   * Counts a call of a service before it is made, or refuses it. A quota of calls is exact, also for many at once and after a crash;
   * tokens and spend are known when a call is over, so that calls under way may exceed what is left.
   * @throws Failure `budget.spent`
   */
  async admit({ serviceId }: Caller, quotas: ServiceQuotas): Promise<void> {
    const day = this.#today()
    const totals = await this.#totalsOf(serviceId, day)
    // From here to the count nothing else happens.
    const refuse = (quota: string, most: number, used: string): never => {
      const message = `Service ${serviceId} has used ${used} today (UTC) of its quota ${quota} of ${most}. Have the quota raised, or wait for tomorrow.`
      throw new Failure('budget.spent', message)
    }
    const { requests_per_day: requests, tokens_per_day: tokens, spend_per_day_usd: spend } = quotas
    if (requests > 0 && totals.requests >= requests) refuse('requests_per_day', requests, String(totals.requests))
    if (tokens > 0 && totals.tokens >= tokens) refuse('tokens_per_day', tokens, String(totals.tokens))
    if (spend > 0 && totals.spend >= spend) refuse('spend_per_day_usd', spend, `${totals.spend.toFixed(4)} USD`)
    totals.requests += 1
    this.#pendingTotals.push({ day, serviceId, requests: 1, tokens: 0, spend: 0 })
    const written = this.#flushSoon()
    if (requests > 0) await written
    else written.catch(() => undefined) // Tried again, and logged.
  }

  /** Writes down what a call has used. */
  async settle(entry: Omit<UsageEntry, 'day' | 'requests'>): Promise<void> {
    const day = this.#today()
    const { serviceId, input, output, cached, costUsd } = entry
    const tokens = input + output + cached
    const totals = await this.#totalsOf(serviceId, day)
    totals.tokens += tokens
    totals.spend += costUsd
    this.#pendingTotals.push({ day, serviceId, requests: 0, tokens, spend: costUsd })
    this.#pendingEntries.push({ ...entry, day, requests: 1, runId: this.#knownRun(entry) })
    this.#flushSoon().catch(() => undefined) // Tried again, and logged.
  }

  /** Everything so far is written down. */
  async flush(): Promise<void> {
    await this.#flushing?.catch(() => undefined)
    await this.#flushSoon()
  }

  #today(): string {
    const day = dayOf(this.#parts.now())
    if (day !== this.#day) {
      this.#day = day
      this.#totals.clear()
      this.#runs.clear()
    }
    return day
  }

  #totalsOf(serviceId: number, day: string): Promise<Totals> {
    const key = `${serviceId}/${day}`
    let totals = this.#totals.get(key)
    if (!totals) {
      totals = this.#parts.store.totals(serviceId, day).then((found) => ({ ...found }))
      totals.catch(() => this.#totals.delete(key))
      this.#totals.set(key, totals)
    }
    return totals
  }

  #knownRun({ sandboxId, runId }: Pick<UsageEntry, 'sandboxId' | 'runId'>): string {
    if (runId === '') return ''
    const runs = this.#runs.get(sandboxId) ?? new Set()
    this.#runs.set(sandboxId, runs)
    if (runs.size < maxRuns) runs.add(runId)
    return runs.has(runId) ? runId : ''
  }

  #flushSoon(): Promise<void> {
    this.#flushing ??= new Promise<void>((resolve, reject) => {
      setTimeout(() => {
        this.#flushing = undefined
        this.#write().then(resolve, reject)
      }, flushMs)
    })
    return this.#flushing
  }

  async #write(): Promise<void> {
    const totals = this.#pendingTotals
    const entries = this.#pendingEntries
    if (totals.length + entries.length === 0) return
    this.#pendingTotals = []
    this.#pendingEntries = []
    try {
      await this.#parts.store.add({ totals, entries, at: this.#parts.now() })
    } catch (error) {
      this.#parts.log.error({ err: error }, 'the usage of models could not be written down; it is tried again with the next')
      this.#pendingTotals.unshift(...totals)
      this.#pendingEntries.unshift(...entries)
      throw error
    }
  }
}
