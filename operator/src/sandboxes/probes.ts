// What each runtime is on this machine, from probes that really started something, kept with the time of each.
import type { RuntimeName, RuntimeProbe } from '@atoll/protocol'
import type { z } from 'zod'
import type { Probe, Runtime } from './runtime.ts'

/** What probes need of a runtime. */
type Probeable = Pick<Runtime, 'name' | 'ping' | 'probe'>

type Probed = z.infer<typeof RuntimeProbe>

const pingDeadlineMs = 5000
const probeDeadlineMs = 60_000
/** Anybody may ask for the operator's health, and a probe starts a sandbox: a failed one stands for so long. */
const restMs = 10_000

export class Probes {
  readonly defaultRuntime: RuntimeName
  readonly #runtimes: ReadonlyMap<RuntimeName, Probeable>
  readonly #now: () => number
  readonly #known = new Map<RuntimeName, { readonly probe: Probe; readonly at: number }>()
  #refreshing: Promise<void> | undefined

  constructor(parts: { runtimes: ReadonlyMap<RuntimeName, Probeable>; defaultRuntime: RuntimeName; now: () => number }) {
    this.#runtimes = parts.runtimes
    this.defaultRuntime = parts.defaultRuntime
    this.#now = parts.now
  }

  /** Probes again what was last probed before `ageMs`. */
  async refreshOlderThan(ageMs: number): Promise<void> {
    const oldest = Math.min(...[...this.#known.values()].map(({ at }) => at))
    if (this.#now() - oldest > ageMs) await this.refresh()
  }

  /** Probes every runtime again; one round at a time. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#probeAll().finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  /** Resolves when no probe is under way. */
  async settle(): Promise<void> {
    await this.#refreshing
  }

  async #probeAll(): Promise<void> {
    for (const runtime of this.#runtimes.values()) {
      const probe = await runtime.probe(AbortSignal.timeout(probeDeadlineMs))
      this.#known.set(runtime.name, { probe, at: this.#now() })
    }
  }

  /** Why new sandboxes of the default runtime cannot run at this moment; undefined when they can. */
  async defaultRuntimeError(): Promise<string | undefined> {
    const runtime = this.#runtimes.get(this.defaultRuntime)
    if (!runtime) return `the runtime ${this.defaultRuntime} is not part of this operator`
    const silent = await runtime.ping(AbortSignal.timeout(pingDeadlineMs))
    if (silent !== undefined) return silent
    const last = this.#known.get(this.defaultRuntime)
    if (last?.probe.available) return undefined
    // It answers and was never probed, or failed when it was: only a new probe can tell.
    if (!last || Math.abs(this.#now() - last.at) >= restMs) await this.refresh()
    const probe = this.#known.get(this.defaultRuntime)?.probe
    return probe?.available ? undefined : (probe?.reason ?? 'the runtime does not work')
  }

  /** Every probe that was made; what was not probed is not there. */
  async all(): Promise<{ runtimes: Probed[]; probed_at: number }> {
    if (this.#known.size === 0) await this.refresh()
    const runtimes = [...this.#known].map(([name, { probe, at }]) => ({
      name,
      available: probe.available,
      ...(probe.reason !== undefined && { reason: probe.reason }),
      ...(probe.version !== undefined && { version: probe.version }),
      isolation: probe.isolation,
      limits: { ...probe.limits },
      features: [...probe.features],
      default: name === this.defaultRuntime,
      probed_at: Math.floor(at / 1000),
    }))
    return { runtimes, probed_at: Math.max(0, ...runtimes.map(({ probed_at }) => probed_at)) }
  }
}
