// The making of sandboxes: admitted at once, made in the background, undone when it fails.
import type { CreateSandbox, RuntimeName } from '@atoll/protocol'
import { Failure, toFailure } from '@atoll/protocol'
import type { Logger } from 'pino'
import { type Limits, type Size, sizesFor, timeoutsFor, times } from './admission.ts'
import { requestedRuntime } from './backend.ts'
import type { CreationQueue } from './creation-queue.ts'
import { faultPoint } from './faults.ts'
import type { Guests } from './guests.ts'
import { endFailure, type Moves } from './moves.ts'
import type { Tenants } from './quota.ts'
import type { Room } from './room.ts'
import type { Plan, Running, Runtime, StartContext } from './runtime.ts'
import type { SandboxRecord } from './sandbox.ts'
import type { Secrets } from './secrets.ts'
import type { Seed } from './snapshot-store.ts'
import type { Idempotency, Store } from './store.ts'

export interface CreationParts {
  readonly store: Store
  readonly defaultRuntime: RuntimeName
  readonly guests: Guests
  readonly secrets: Secrets
  readonly tenants: Tenants
  readonly limits: Limits
  readonly queue: CreationQueue
  readonly now: () => number
  readonly newId: () => string
  readonly log: Logger
  /** How long a sidecar may take until it answers. */
  readonly readyDeadlineMs: number
}

/** What is asked for. */
export interface Wanted extends CreateSandbox {
  /** The disk that it begins with; a blank one when not given. */
  readonly seed?: Seed
}

/** What the lifecycle lends. */
interface Lent {
  readonly moves: Moves
  readonly room: Room
  readonly runtime: (name: RuntimeName) => Runtime
  readonly get: (owner: string | undefined, id: string, seesDeleted?: boolean) => Promise<SandboxRecord>
}

export interface Created {
  readonly sandbox: SandboxRecord
  /** Resolves when it runs; rejects with the reason when it could not be made. Nothing of a failed one stays behind. */
  readonly settled: Promise<SandboxRecord>
}

export class Creations {
  readonly #parts: CreationParts & Lent
  readonly #moves: Moves
  readonly #underWay = new Map<string, { abort: AbortController; settled: Promise<SandboxRecord> }>()

  constructor(parts: CreationParts & Lent) {
    this.#parts = parts
    this.#moves = parts.moves
  }

  /** Admits, remembers, and starts making a sandbox in the background. */
  async create(owner: string, spec: Wanted, idempotency?: Idempotency): Promise<Created> {
    return this.#parts.room.alone(async () => {
      const earlier = idempotency && (await this.#earlier(owner, idempotency))
      if (earlier) return earlier
      const begin = await this.#admit(owner, spec, 1)
      return begin(spec, idempotency)
    })
  }

  /** As many of the same as there are disks, or none. */
  async fork(owner: string, spec: CreateSandbox, seeds: readonly Seed[]): Promise<Created[]> {
    return this.#parts.room.alone(async () => {
      const begin = await this.#admit(owner, spec, seeds.length)
      const created: Created[] = []
      for (const [index, seed] of seeds.entries()) {
        const name = spec.name && seeds.length > 1 ? `${spec.name}-${index + 1}` : spec.name
        created.push(await begin({ ...spec, name, seed }))
      }
      return created
    })
  }

  /** To be called while nobody else is given room. What comes of it remembers one of them and starts making it. */
  async #admit(owner: string, { service_id, ...spec }: CreateSandbox, count: number) {
    const { store, limits, queue, tenants, room } = this.#parts
    const runtime = this.#parts.runtime(requestedRuntime(spec) ?? this.#parts.defaultRuntime)
    const size = sizesFor(spec, limits)
    queue.assertRoom()
    const serviceId = await tenants.serviceFor(owner, service_id)
    await room.admit({ owner, serviceId, size: times(size, count), isNew: true, count })
    return async (spec: Wanted, idempotency?: Idempotency): Promise<Created> => {
      const record = { ...this.#newRecord(owner, spec, runtime.name, size), serviceId }
      const sealed = this.#parts.secrets.seal(record.id, spec.env_json)
      const sandbox = await store.insert(record, { env: sealed, secrets: undefined }, idempotency)
      faultPoint('create.recorded', sandbox.id)
      return { sandbox, settled: this.#makeInBackground(sandbox, runtime, spec.seed) }
    }
  }

  async #earlier(owner: string, { key, fingerprint }: Idempotency): Promise<Created | undefined> {
    const found = await this.#parts.store.findIdempotent(owner, key)
    if (!found) return undefined
    if (found.fingerprint !== fingerprint) {
      throw new Failure('idempotency.mismatch', 'This Idempotency-Key was used with another body. Use a new key for a new sandbox.')
    }
    const sandbox = await this.#parts.get(owner, found.sandboxId, true)
    const running = this.#underWay.get(sandbox.id)?.settled
    const settled = running ?? (sandbox.state === 'ended' ? Promise.reject(endFailure(sandbox)) : Promise.resolve(sandbox))
    settled.catch(() => undefined) // The caller may not wait for it; the record keeps the reason.
    return { sandbox, settled }
  }

  #newRecord(owner: string, spec: Wanted, runtime: RuntimeName, size: Size): Omit<SandboxRecord, 'version' | 'callId' | 'serviceId'> {
    const { now, newId, limits } = this.#parts
    const { ports, ...metadata } = spec.metadata_json
    const id = spec.seed?.id ?? newId()
    return {
      id,
      owner,
      state: 'creating',
      end: undefined,
      runtime,
      name: spec.name || id,
      image: spec.image,
      agentIdentifier: spec.agent_identifier,
      ...size,
      pids: limits.pids,
      ports: [...new Set(ports)],
      metadata: { ...metadata, runtime_backend: runtime, ...(spec.stack && { stack: spec.stack }) },
      capabilities: capabilitiesOf(spec.capabilities_json),
      ...timeoutsFor(spec, limits),
      idleAction: spec.idle_action,
      autoResume: spec.auto_resume,
      socketPath: undefined,
      createdAt: now(),
      lastActivityAt: now(),
      stoppedAt: undefined,
    }
  }

  #makeInBackground(sandbox: SandboxRecord, runtime: Runtime, seed: Seed | undefined): Promise<SandboxRecord> {
    const abort = new AbortController()
    const settled = this.#parts.queue
      .run(() =>
        this.#moves.exclusive(sandbox.id, (current) => {
          if (current.state !== 'creating') throw endFailure(current)
          return this.#make(current, { runtime, seed, signal: abort.signal })
        }),
      )
      .finally(() => this.#underWay.delete(sandbox.id))
    settled.catch(() => undefined) // Written to the record and the log where it happened; the caller may not wait for it.
    this.#underWay.set(sandbox.id, { abort, settled })
    return settled
  }

  async #make(sandbox: SandboxRecord, { runtime, seed, signal }: Making): Promise<SandboxRecord> {
    const { now, log } = this.#parts
    const startedAt = now()
    try {
      signal.throwIfAborted()
      const disk = seed && (await this.#seeded(sandbox, seed, signal))
      const running = await runtime.start({ ...planOf(sandbox), ...disk }, this.#context(sandbox, signal))
      faultPoint('create.started', sandbox.id)
      await this.#awaitGuest(sandbox, running, signal)
      faultPoint('create.configured', sandbox.id)
      const change = { socketPath: running.socketPath, image: running.image, lastActivityAt: now() }
      const made = await this.#moves.move(sandbox, 'running', change, { type: 'sandbox.running', data: { duration_ms: now() - startedAt } })
      faultPoint('create.done', sandbox.id)
      await this.#phase(sandbox, 'ready')
      log.info({ sandboxId: sandbox.id, runtime: runtime.name, durationMs: now() - startedAt }, 'sandbox created')
      return made
    } catch (error) {
      const failure = signal.aborted ? new Failure('sandbox.ended', 'The sandbox was deleted while it was being made.') : toFailure(error)
      log.warn({ sandboxId: sandbox.id, runtime: runtime.name, code: failure.code, err: error }, 'sandbox could not be created')
      await this.#abandon(sandbox, runtime, failure)
      throw failure
    } finally {
      await seed?.discard()
    }
  }

  async #seeded(sandbox: SandboxRecord, seed: Seed, signal: AbortSignal): Promise<Pick<Plan, 'seed'>> {
    await this.#phase(sandbox, 'image_pull', 'copying the disk')
    return { seed: await seed.prepare(sandbox, signal) }
  }

  /** Waits until the sidecar answers and gives it the environment. */
  async #awaitGuest(sandbox: SandboxRecord, running: Running, signal: AbortSignal): Promise<void> {
    const guest = await this.#parts.guests.open(sandbox, running.socketPath)
    await this.#phase(sandbox, 'health_check')
    await guest.ready(this.#parts.readyDeadlineMs, signal)
    await guest.configure(await this.#parts.secrets.environment(sandbox.id))
  }

  async #abandon(sandbox: SandboxRecord, runtime: Runtime, failure: Failure): Promise<void> {
    const { log, guests } = this.#parts
    guests.close(sandbox.id)
    try {
      await runtime.remove(sandbox.id)
    } catch (error) {
      // Reconcile removes it once the runtime answers, since its record has ended.
      log.error({ sandboxId: sandbox.id, err: error }, 'what was left of a failed creation could not be removed')
    }
    await this.#moves.end(sandbox, { reason: 'failed', code: failure.code, message: failure.message })
    await this.#phase(sandbox, 'failed', failure.message)
  }

  /** A creation that no process of the operator is working on any more is undone. */
  async abandonInterrupted(sandbox: SandboxRecord): Promise<void> {
    if (this.#underWay.has(sandbox.id)) return
    const failure = new Failure('internal', 'The operator was restarted while the sandbox was being made. Create it again.')
    await this.#moves.exclusive(sandbox.id, async (current) => {
      if (current.state !== 'creating') return
      // Whoever asks again under the same key never had an answer, and gets a sandbox.
      await this.#parts.store.releaseIdempotency(current.id)
      await this.#abandon(current, this.#parts.runtime(current.runtime), failure)
    })
  }

  has(id: string): boolean {
    return this.#underWay.has(id)
  }

  abort(id: string): void {
    this.#underWay.get(id)?.abort.abort()
  }

  /** Waits for those that are under way. */
  async settle(): Promise<void> {
    await Promise.allSettled([...this.#underWay.values()].map(({ settled }) => settled))
  }

  #context(sandbox: SandboxRecord, signal: AbortSignal): StartContext {
    return contextOf(this.#parts, sandbox, signal)
  }

  #phase(sandbox: SandboxRecord, phase: Phase, message?: string): Promise<void> {
    return this.#parts.store.setProvision(sandbox.callId, { phase, message })
  }
}

interface Making {
  readonly runtime: Runtime
  readonly seed: Seed | undefined
  readonly signal: AbortSignal
}

type Phase = 'image_pull' | 'health_check' | 'ready' | 'failed'

/** A start of a sandbox that tells its phases. */
export const contextOf = (
  { store, log }: Pick<CreationParts, 'store' | 'log'>,
  sandbox: SandboxRecord,
  signal: AbortSignal,
): StartContext => ({
  signal,
  progress: (phase, message) => {
    store.setProvision(sandbox.callId, { phase, message }).catch((error: unknown) => {
      log.error({ sandboxId: sandbox.id, err: error }, 'a provisioning phase could not be written')
    })
  },
})

export const planOf = (sandbox: SandboxRecord): Plan => ({
  id: sandbox.id,
  image: sandbox.image,
  cpuCores: sandbox.cpuCores,
  memoryMb: sandbox.memoryMb,
  diskGb: sandbox.diskGb,
  pids: sandbox.pids,
})

const knownCapabilities = new Set(['computer_use', 'all_harness'])

/** A JSON array or a comma list; what is not a capability is left out. */
function capabilitiesOf(value: string | readonly string[]): string[] {
  const names = typeof value === 'string' ? value.replaceAll(/[[\]"]/g, '').split(',') : value
  return [...new Set(names.map((name) => name.trim()))].filter((name) => knownCapabilities.has(name))
}
