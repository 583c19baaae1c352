// The only writer of a sandbox's state. HTTP, workflows, chain jobs, reaper and reconcile are entrances to these functions.
import type { CreateSandbox, EndReason, RuntimeName, SandboxStatus } from '@atoll/protocol'
import { Failure, toFailure } from '@atoll/protocol'
import type { Logger } from 'pino'
import { admit, type Limits, type Size, sizeOfRecord, sizesFor, timeoutsFor } from './admission.ts'
import { requestedRuntime } from './backend.ts'
import type { CreationQueue } from './creation-queue.ts'
import type { Guests } from './guests.ts'
import type { Locks } from './locks.ts'
import { admitToService, type Tenants } from './quota.ts'
import type { Plan, Running, Runtime, StartContext } from './runtime.ts'
import { mayMove, type SandboxRecord } from './sandbox.ts'
import type { Secrets } from './secrets.ts'
import type { Idempotency, NewEvent, SandboxChange, Store } from './store.ts'

export interface LifecycleParts {
  readonly store: Store
  readonly runtimes: ReadonlyMap<RuntimeName, Runtime>
  readonly defaultRuntime: RuntimeName
  readonly guests: Guests
  readonly secrets: Secrets
  readonly tenants: Tenants
  readonly limits: Limits
  readonly queue: CreationQueue
  readonly locks: Locks
  readonly now: () => number
  readonly newId: () => string
  readonly log: Logger
  /** How long a sidecar may take until it answers. */
  readonly readyDeadlineMs: number
  /** Free room on the disk that sandboxes are on. */
  readonly freeDiskMb: () => Promise<number>
}

export interface Created {
  readonly sandbox: SandboxRecord
  /** Resolves when it runs; rejects with the reason when it could not be made. Nothing of a failed one stays behind. */
  readonly settled: Promise<SandboxRecord>
}

const noSize: Size = { cpuCores: 0, memoryMb: 0, diskGb: 0 }
/** The lock under which room is given. */
export const admissionKey = 'admission'

export class Lifecycle {
  readonly #parts: LifecycleParts
  readonly #creations = new Map<string, { abort: AbortController; settled: Promise<SandboxRecord> }>()
  /** Room of resumes that were admitted and are not yet `running` in the store. */
  readonly #resuming = new Map<string, Size & { readonly serviceId: number }>()

  constructor(parts: LifecycleParts) {
    this.#parts = parts
  }

  /** Admits, remembers, and starts making a sandbox in the background. */
  async create(owner: string, spec: CreateSandbox, idempotency?: Idempotency): Promise<Created> {
    const { store, limits, locks, queue, tenants } = this.#parts
    const runtime = this.runtime(requestedRuntime(spec) ?? this.#parts.defaultRuntime)
    const size = sizesFor(spec, limits)
    return locks.run(admissionKey, async () => {
      const earlier = idempotency && (await this.#earlier(owner, idempotency))
      if (earlier) return earlier
      queue.assertRoom()
      const serviceId = await tenants.serviceFor(owner, spec.service_id)
      await this.#admit({ owner, serviceId, size, isNew: true })
      const record = { ...this.#newRecord(owner, spec, runtime.name, size), serviceId }
      const sealed = this.#parts.secrets.seal(record.id, spec.env_json)
      const sandbox = await store.insert(record, { env: sealed, secrets: undefined }, idempotency)
      return { sandbox, settled: this.#makeInBackground(sandbox, runtime) }
    })
  }

  async #earlier(owner: string, { key, fingerprint }: Idempotency): Promise<Created | undefined> {
    const found = await this.#parts.store.findIdempotent(owner, key)
    if (!found) return undefined
    if (found.fingerprint !== fingerprint) {
      throw new Failure('idempotency.mismatch', 'This Idempotency-Key was used with another body. Use a new key for a new sandbox.')
    }
    const sandbox = await this.get(owner, found.sandboxId, true)
    const running = this.#creations.get(sandbox.id)?.settled
    const settled = running ?? (sandbox.state === 'ended' ? Promise.reject(endFailure(sandbox)) : Promise.resolve(sandbox))
    settled.catch(() => undefined) // The caller may not wait for it; the record keeps the reason.
    return { sandbox, settled }
  }

  #newRecord(
    owner: string,
    spec: CreateSandbox,
    runtime: RuntimeName,
    size: Size,
  ): Omit<SandboxRecord, 'version' | 'callId' | 'serviceId'> {
    const { now, newId, limits } = this.#parts
    const { ports, ...metadata } = spec.metadata_json
    const id = newId()
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
      socketPath: undefined,
      createdAt: now(),
      lastActivityAt: now(),
      stoppedAt: undefined,
    }
  }

  #makeInBackground(sandbox: SandboxRecord, runtime: Runtime): Promise<SandboxRecord> {
    const abort = new AbortController()
    const settled = this.#parts.queue
      .run(() =>
        this.#exclusive(sandbox.id, (current) => {
          if (current.state !== 'creating') throw endFailure(current)
          return this.#make(current, runtime, abort.signal)
        }),
      )
      .finally(() => this.#creations.delete(sandbox.id))
    settled.catch(() => undefined) // Written to the record and the log where it happened; the caller may not wait for it.
    this.#creations.set(sandbox.id, { abort, settled })
    return settled
  }

  async #make(sandbox: SandboxRecord, runtime: Runtime, signal: AbortSignal): Promise<SandboxRecord> {
    const { now, log } = this.#parts
    const startedAt = now()
    try {
      signal.throwIfAborted()
      const running = await runtime.start(planOf(sandbox), this.#context(sandbox, signal))
      await this.#awaitGuest(sandbox, running, signal)
      const change = { socketPath: running.socketPath, image: running.image, lastActivityAt: now() }
      const made = await this.#move(sandbox, 'running', change, { type: 'sandbox.running', data: { duration_ms: now() - startedAt } })
      await this.#phase(sandbox, 'ready')
      log.info({ sandboxId: sandbox.id, runtime: runtime.name, durationMs: now() - startedAt }, 'sandbox created')
      return made
    } catch (error) {
      const failure = signal.aborted ? new Failure('sandbox.ended', 'The sandbox was deleted while it was being made.') : toFailure(error)
      log.warn({ sandboxId: sandbox.id, runtime: runtime.name, code: failure.code, err: error }, 'sandbox could not be created')
      await this.#abandon(sandbox, runtime, failure)
      throw failure
    }
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
    await this.#end(sandbox, { reason: 'failed', code: failure.code, message: failure.message })
    await this.#phase(sandbox, 'failed', failure.message)
  }

  /** Ends every process and keeps the disk. Safe to repeat. An idle sandbox that was used since it was looked at goes on running. */
  async stop(sandbox: SandboxRecord, reason: 'asked' | 'idle' = 'asked'): Promise<SandboxRecord> {
    return this.#exclusive(sandbox.id, async (current) => {
      if (current.state === 'stopped') return current
      if (reason === 'idle' && (current.version !== sandbox.version || current.lastActivityAt !== sandbox.lastActivityAt)) return current
      this.#assertState(current, ['running'])
      this.#parts.guests.close(current.id)
      await this.runtime(current.runtime).stop(current.id)
      const change = { socketPath: undefined, stoppedAt: this.#parts.now() }
      return this.#move(current, 'stopped', change, { type: 'sandbox.stopped', data: { reason } })
    })
  }

  /** Starts a stopped sandbox with its disk. Safe to repeat. */
  async resume(sandbox: SandboxRecord): Promise<SandboxRecord> {
    const { locks } = this.#parts
    return this.#exclusive(sandbox.id, async (current) => {
      if (current.state === 'running') return current
      this.#assertState(current, ['stopped'])
      const { id, owner, serviceId } = current
      const size = sizeOfRecord(current)
      await locks.run(admissionKey, async () => {
        await this.#admit({ owner, serviceId, size, isNew: false })
        this.#resuming.set(id, { ...size, serviceId })
      })
      try {
        return await this.#restart(current)
      } finally {
        this.#resuming.delete(id)
      }
    })
  }

  async #restart(current: SandboxRecord): Promise<SandboxRecord> {
    const { now, log, guests } = this.#parts
    const runtime = this.runtime(current.runtime)
    const signal = AbortSignal.timeout(this.#parts.readyDeadlineMs * 2)
    try {
      const running = await runtime.resume(planOf(current), this.#context(current, signal))
      const guest = await guests.open(current, running.socketPath)
      await guest.ready(this.#parts.readyDeadlineMs, signal)
      await guest.configure(await this.#parts.secrets.environment(current.id))
      const change = { socketPath: running.socketPath, stoppedAt: undefined, lastActivityAt: now() }
      return await this.#move(current, 'running', change, { type: 'sandbox.running', data: { resumed: true } })
    } catch (error) {
      guests.close(current.id)
      await runtime.stop(current.id).catch((stopError: unknown) => {
        log.error({ sandboxId: current.id, err: stopError }, 'a sandbox that could not be resumed could not be stopped either')
      })
      throw error
    }
  }

  /** Ends a sandbox and its disk. Safe to repeat. */
  async remove(sandbox: SandboxRecord, end: EndReason = { reason: 'deleted' }): Promise<void> {
    this.#creations.get(sandbox.id)?.abort.abort()
    await this.#exclusive(sandbox.id, async (current) => {
      if (isDeleted(current)) return
      // Why is written down first: whoever finishes an interrupted removal finds it.
      const event = { type: 'sandbox.deleting', data: { reason: end.reason } }
      const deleting = current.state === 'deleting' ? current : await this.#move(current, 'deleting', { end }, event)
      this.#parts.guests.close(current.id)
      await this.runtime(current.runtime).remove(current.id)
      await this.#end(deleting, end)
      this.#parts.log.info({ sandboxId: current.id, reason: end.reason }, 'sandbox removed')
    })
  }

  /**
   * What the engine shows is written down: the sandbox was found stopped, or is not there any more. One that runs and should not is stopped:
   * the operator did not live to finish its stop, or to write down its resume. Whoever changed the sandbox meanwhile is right.
   */
  async observed(sandbox: SandboxRecord, seen: 'running' | 'stopped' | 'gone'): Promise<void> {
    await this.#exclusive(sandbox.id, async (current) => {
      if (current.version !== sandbox.version) return
      if (seen === 'running') return this.runtime(current.runtime).stop(current.id)
      this.#parts.guests.close(current.id)
      if (seen === 'gone')
        return void (await this.#end(current, { reason: 'node_lost', message: 'The runtime does not have it any more.' }))
      const change = { socketPath: undefined, stoppedAt: this.#parts.now() }
      await this.#move(current, 'stopped', change, { type: 'sandbox.stopped', data: { reason: 'found_stopped' } })
    })
  }

  /** A creation that no process of the operator is working on any more is undone. */
  async abandonInterrupted(sandbox: SandboxRecord): Promise<void> {
    if (this.#creations.has(sandbox.id)) return
    const failure = new Failure('internal', 'The operator was restarted while the sandbox was being made. Create it again.')
    await this.#exclusive(sandbox.id, (current) =>
      current.state === 'creating' ? this.#abandon(current, this.runtime(current.runtime), failure) : Promise.resolve(),
    )
  }

  isCreating(id: string): boolean {
    return this.#creations.has(id)
  }

  /**
   * The caller's sandbox.
   * @throws Failure `sandbox.not_found`, also for somebody else's, and for one that was deleted unless `seesDeleted`
   */
  async get(owner: string | undefined, id: string, seesDeleted = false): Promise<SandboxRecord> {
    const record = await this.#parts.store.get(id)
    const isTheirs = record && (owner === undefined || record.owner === owner)
    if (!isTheirs || (isDeleted(record) && !seesDeleted)) {
      throw new Failure('sandbox.not_found', `No sandbox ${id.slice(0, 64)} belongs to you. List yours with GET /api/sandboxes.`)
    }
    return record
  }

  /** @throws Failure `runtime.unavailable` when this operator does not run it */
  runtime(name: RuntimeName): Runtime {
    const runtime = this.#parts.runtimes.get(name)
    if (!runtime) {
      const known = [...this.#parts.runtimes.keys()].join(', ')
      throw new Failure('runtime.unavailable', `This operator does not run ${name} sandboxes. It runs: ${known}.`)
    }
    return runtime
  }

  /** Waits for the creations that are under way; used at shutdown. */
  async settle(): Promise<void> {
    await Promise.allSettled([...this.#creations.values()].map(({ settled }) => settled))
  }

  #context(sandbox: SandboxRecord, signal: AbortSignal): StartContext {
    return {
      signal,
      progress: (phase, message) => {
        this.#phase(sandbox, phase, message).catch((error: unknown) => {
          this.#parts.log.error({ sandboxId: sandbox.id, err: error }, 'a provisioning phase could not be written')
        })
      },
    }
  }

  #phase(
    sandbox: SandboxRecord,
    phase: 'image_pull' | 'container_create' | 'container_start' | 'health_check' | 'ready' | 'failed',
    message?: string,
  ) {
    return this.#parts.store.setProvision(sandbox.callId, { phase, message })
  }

  /** Is there room on this machine, and in the service? */
  async #admit({ owner, serviceId, size, isNew }: { owner: string; serviceId: number; size: Size; isNew: boolean }): Promise<void> {
    const { store, limits, tenants, freeDiskMb } = this.#parts
    const quota = await tenants.quotaOf(serviceId, owner)
    await admitToService(store, quota, { serviceId, size, isNew, reserved: this.#reserved(serviceId) })
    await admit(store, limits, { size, isNew, reserved: this.#reserved(), freeDiskMb: await freeDiskMb() })
  }

  /** Of a service or (without one) of all. */
  #reserved(ofService?: number): Size {
    let sum = noSize
    for (const { serviceId, ...size } of this.#resuming.values()) {
      if (ofService !== undefined && serviceId !== ofService) continue
      sum = { cpuCores: sum.cpuCores + size.cpuCores, memoryMb: sum.memoryMb + size.memoryMb, diskGb: 0 }
    }
    return sum
  }

  /** Runs with the sandbox to itself, on the record as it is then. */
  #exclusive<Result>(id: string, work: (current: SandboxRecord) => Promise<Result>): Promise<Result> {
    return this.#parts.locks.run(id, async () => {
      const current = await this.#parts.store.get(id)
      if (!current) throw new Failure('sandbox.not_found', `No sandbox ${id}.`)
      return work(current)
    })
  }

  #assertState(sandbox: SandboxRecord, allowed: readonly SandboxStatus[]): void {
    if (allowed.includes(sandbox.state)) return
    if (sandbox.state === 'ended') throw endFailure(sandbox)
    throw new Failure('sandbox.busy', `Sandbox ${sandbox.id} is ${sandbox.state}. Wait until it is ${allowed.join(' or ')}.`, {
      retryAfterMs: 1000,
    })
  }

  async #move(from: SandboxRecord, to: SandboxStatus, change: SandboxChange, event: Omit<NewEvent, 'sandboxId'>): Promise<SandboxRecord> {
    if (!mayMove(from.state, to)) throw new Failure('internal', `A sandbox cannot go from ${from.state} to ${to}.`)
    const moved = await this.#parts.store.move(from, to, change, { ...event, sandboxId: from.id })
    if (!moved)
      throw new Failure('sandbox.busy', `Sandbox ${from.id} was changed by somebody else meanwhile. Try again.`, { retryAfterMs: 500 })
    return moved
  }

  async #end(from: SandboxRecord, end: EndReason): Promise<SandboxRecord> {
    const type = end.reason === 'deleted' ? 'sandbox.deleted' : 'sandbox.ended'
    return this.#move(from, 'ended', { end, socketPath: undefined }, { type, data: { ...end } })
  }
}

/** A removal that is under way has its reason already. */
const isDeleted = ({ state, end }: SandboxRecord): boolean => state === 'ended' && end?.reason === 'deleted'

const planOf = (sandbox: SandboxRecord): Plan => ({
  id: sandbox.id,
  image: sandbox.image,
  cpuCores: sandbox.cpuCores,
  memoryMb: sandbox.memoryMb,
  diskGb: sandbox.diskGb,
  pids: sandbox.pids,
})

export function endFailure(sandbox: SandboxRecord): Failure {
  const { end } = sandbox
  return new Failure(
    'sandbox.ended',
    `Sandbox ${sandbox.id} has ended (${end?.reason ?? 'unknown'})${end?.message ? `: ${end.message}` : '.'}`,
  )
}

const knownCapabilities = new Set(['computer_use', 'all_harness'])

/** A JSON array or a comma list; what is not a capability is left out. */
function capabilitiesOf(value: string | readonly string[]): string[] {
  const names = typeof value === 'string' ? value.replaceAll(/[[\]"]/g, '').split(',') : value
  return [...new Set(names.map((name) => name.trim()))].filter((name) => knownCapabilities.has(name))
}
