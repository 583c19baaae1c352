// Which harnesses really work in which image, from running the image's own check of them, once for each content of an image.
import { CreateSandbox, Failure, type RuntimeName } from '@atoll/protocol'
import { sidecarPaths } from '@atoll/protocol/sidecar'
import type { Logger } from 'pino'
import { z } from 'zod'
import type { Guests } from '../sandboxes/guests.ts'
import type { Lifecycle } from '../sandboxes/lifecycle.ts'
import type { Runtime } from '../sandboxes/runtime.ts'
import type { Store } from '../sandboxes/store.ts'

/** A harness as the image describes it. */
export const ProbedHarness = z.object({
  id: z.string(),
  label: z.string(),
  version: z.string(),
  mcp: z.boolean(),
  skills: z.boolean(),
  subagents: z.boolean(),
})
export type ProbedHarness = z.infer<typeof ProbedHarness>

export interface ImageProbe {
  readonly runtime: RuntimeName
  /** As it is asked for; empty: the runtime's own. */
  readonly image: string
  /** The content that was probed. */
  readonly imageId: string
  readonly probedAt: number
  /** Those that passed. */
  readonly harnesses: readonly ProbedHarness[]
  /** Why others did not. */
  readonly problems: readonly string[]
}

export interface ImageProbeStore {
  list(): Promise<ImageProbe[]>
  /** Replaces what was known of the same image. */
  save(probe: ImageProbe): Promise<void>
  remove(probe: Pick<ImageProbe, 'runtime' | 'image'>): Promise<void>
}

/** What `blueprint-verify-harnesses --json` prints: how each claim fared, and what is known of those that work. */
const Report = z.object({
  harnesses: z.array(z.object({ id: z.string(), problem: z.string() })),
  manifest: z.object({ harnesses: z.array(ProbedHarness) }),
})

/** Owner of the sandboxes that images are tried in. */
const probeOwner = 'atoll:image-probe'
const verify = ['blueprint-verify-harnesses', '--json'] as const
const verifyDeadlineMs = 180_000
/** Several agents run one after the other, the largest in about 900 MB. */
const probeMemoryMb = 2048

export interface ImageProbesParts {
  readonly lifecycle: Pick<Lifecycle, 'create' | 'remove'>
  readonly guests: Guests
  readonly store: Store
  readonly probes: ImageProbeStore
  readonly runtimes: ReadonlyMap<RuntimeName, Runtime>
  readonly defaultRuntime: RuntimeName
  readonly now: () => number
  readonly log: Logger
}

export class ImageProbes {
  readonly #parts: ImageProbesParts
  readonly #abort = new AbortController()
  #refreshing: Promise<void> | undefined

  constructor(parts: ImageProbesParts) {
    this.#parts = parts
  }

  /** What was probed of images that are still here and still what was probed. */
  async known(): Promise<ImageProbe[]> {
    const { probes } = this.#parts
    const known = await probes.list()
    const current = await Promise.all(known.map(async (probe) => (await this.#claimOf(probe))?.id === probe.imageId))
    return known.filter((_, index) => current[index])
  }

  async #claimOf({ runtime, image }: Pick<ImageProbe, 'runtime' | 'image'>) {
    // A runtime that does not answer, or a name it does not take, proves nothing here.
    return this.#parts.runtimes
      .get(runtime)
      ?.imageClaim(image)
      .catch(() => undefined)
  }

  /** Probes what is in use and not known yet; one round at a time. Failures are logged, and tried again in the next round. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#round().finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  /** Gives up the probe that is under way. */
  async stop(): Promise<void> {
    this.#abort.abort()
    await this.#refreshing
  }

  async #round(): Promise<void> {
    const { probes, log } = this.#parts
    try {
      await this.#removeLeftovers()
      const known = await probes.list()
      for (const place of await this.#inUse()) {
        const claim = await this.#claimOf(place)
        const before = known.find((probe) => probe.runtime === place.runtime && probe.image === place.image)
        if (this.#abort.signal.aborted || !claim || before?.imageId === claim.id) continue
        if (claim.claimsHarnesses) await probes.save(await this.#probe({ ...place, imageId: claim.id }))
        else if (before) await probes.remove(before)
      }
    } catch (error) {
      if (!this.#abort.signal.aborted) log.warn({ err: error }, 'an image could not be probed for harnesses')
    }
  }

  /** The default, and the images of sandboxes. */
  async #inUse(): Promise<Pick<ImageProbe, 'runtime' | 'image'>[]> {
    const { store, defaultRuntime } = this.#parts
    const sandboxes = await store.list({ states: ['running', 'stopped'] })
    const places = [{ runtime: defaultRuntime, image: '' }, ...sandboxes.map(({ runtime, image }) => ({ runtime, image }))]
    return [...new Map(places.map((place) => [`${place.runtime}\n${place.image}`, place])).values()]
  }

  /** Sandboxes of probes that an operator did not live to end. */
  async #removeLeftovers(): Promise<void> {
    const left = await this.#parts.store.list({ owner: probeOwner, states: ['creating', 'running', 'stopped'] })
    for (const sandbox of left) await this.#parts.lifecycle.remove(sandbox)
  }

  async #probe(place: Pick<ImageProbe, 'runtime' | 'image' | 'imageId'>): Promise<ImageProbe> {
    const { lifecycle, now, log } = this.#parts
    const { runtime, image } = place
    const spec = CreateSandbox.parse({ name: 'image-probe', image, memory_mb: probeMemoryMb, metadata_json: { runtime_backend: runtime } })
    const { sandbox, settled } = await lifecycle.create(probeOwner, spec)
    try {
      const report = await this.#verify(await settled)
      const probe = {
        ...place,
        probedAt: now(),
        harnesses: report.manifest.harnesses,
        problems: report.harnesses.filter(({ problem }) => problem !== '').map(({ id, problem }) => `${id}: ${problem}`),
      }
      log.info({ runtime, image, works: probe.harnesses.map(({ id }) => id), problems: probe.problems }, 'image probed for harnesses')
      return probe
    } finally {
      await lifecycle.remove(sandbox)
    }
  }

  async #verify(sandbox: Awaited<Awaited<ReturnType<Lifecycle['create']>>['settled']>): Promise<z.infer<typeof Report>> {
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(verifyDeadlineMs)])
    const env = { PATH: `${sidecarPaths.harnesses}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin` }
    const body = { argv: verify, env, timeout_ms: verifyDeadlineMs }
    const answer = await this.#parts.guests.of(sandbox).call<{ stdout: string; stderr: string; exit_code: number }>({
      method: 'POST',
      path: '/exec',
      body,
      signal,
    })
    try {
      return Report.parse(JSON.parse(answer.stdout))
    } catch (cause) {
      const said = answer.stderr.trim().slice(-500)
      throw new Failure('internal', `${verify.join(' ')} ended with ${answer.exit_code} and no report: ${said}`, { cause })
    }
  }
}
