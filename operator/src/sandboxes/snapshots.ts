// Snapshots of sandboxes' disks, sandboxes made from them, and forks: the same from a disk as it is now.
import { type CreateSandbox, type EgressPolicy, Failure, toFailure } from '@atoll/protocol'
import type { Logger } from 'pino'
import { type Limits, sizeOfRecord } from './admission.ts'
import type { CreationQueue } from './creation-queue.ts'
import { faultPoint } from './faults.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { Locks } from './locks.ts'
import type { SandboxRecord } from './sandbox.ts'
import type { ForkRecord, Seed, SnapshotFiles, SnapshotFilter, SnapshotRecord, SnapshotStore, Template } from './snapshot-store.ts'
import type { Idempotency } from './store.ts'
import { likeTemplate, serviceOf } from './template.ts'

export interface SnapshotsParts {
  readonly store: SnapshotStore
  readonly files: SnapshotFiles
  readonly lifecycle: Pick<Lifecycle, 'get' | 'whileFrozen' | 'fork' | 'remove'>
  /** What a sandbox may reach, as far as its owner has said so. */
  readonly egress: {
    own(sandboxId: string): Promise<EgressPolicy | undefined>
    set(sandbox: SandboxRecord, policy: EgressPolicy, by: string): Promise<void>
  }
  readonly locks: Locks
  /** Lets only so many copies be made at once. */
  readonly queue: CreationQueue
  readonly limits: Pick<Limits, 'diskReserveMb'>
  /** Of one owner. */
  readonly most: number
  readonly freeDiskMb: () => Promise<number>
  readonly now: () => number
  /** An unused id that begins with the kind. */
  readonly newId: (kind: 'sandbox' | 'snapshot' | 'fork') => string
  readonly log: Logger
}

interface Made {
  readonly snapshot: SnapshotRecord
  /** Resolves when it is ready; rejects with the reason when it could not be made. */
  readonly settled: Promise<SnapshotRecord>
}

/** A copy that takes longer is given up: whoever waits for it learns of it. */
const deadlineMs = 3_600_000
/** Of the progress; the sandbox goes on when this much is done. */
const copiedPercent = 50

export class Snapshots {
  readonly #parts: SnapshotsParts
  readonly #underWay = new Map<string, { abort: AbortController; settled: Promise<SnapshotRecord>; percent: number }>()
  readonly #forking = new Set<string>()
  readonly #stopping = new AbortController()

  constructor(parts: SnapshotsParts) {
    this.#parts = parts
  }

  /** @throws Failure `snapshot.too_many`, `capacity.*`, `sandbox.ended`, `sandbox.busy`, `runtime.unsupported`, `idempotency.mismatch` */
  create(sandbox: SandboxRecord, name: string, idempotency?: Idempotency): Promise<Made> {
    const { store, files, locks, queue, most, now, newId, egress } = this.#parts
    return locks.run(`snapshots/${sandbox.owner}`, async () => {
      const earlier = idempotency && (await this.#earlier(sandbox.owner, idempotency))
      if (earlier) return earlier
      if ((await store.count(sandbox.owner)) >= most) {
        throw new Failure('snapshot.too_many', `You have ${most} snapshots, as many as this operator keeps of one owner. Delete one.`)
      }
      queue.assertRoom()
      // The copy, and what is packed of it.
      const bytes = await files.diskBytes(sandbox.id)
      await this.#assertDisk(2 * bytes)
      const id = newId('snapshot')
      const snapshot: SnapshotRecord = {
        id,
        owner: sandbox.owner,
        sandboxId: sandbox.id,
        serviceId: sandbox.serviceId,
        name: name || id,
        state: 'creating',
        error: undefined,
        template: templateOf(sandbox, await egress.own(sandbox.id), bytes),
        keySealed: files.newKey(id),
        sizeBytes: 0,
        createdAt: now(),
      }
      await store.insert(snapshot, idempotency)
      faultPoint('snapshot.recorded', id)
      return { snapshot, settled: this.#makeInBackground(snapshot, sandbox) }
    })
  }

  async #earlier(owner: string, { key, fingerprint }: Idempotency): Promise<Made | undefined> {
    const found = await this.#parts.store.findIdempotent(owner, key)
    if (!found) return undefined
    if (found.fingerprint !== fingerprint) {
      throw new Failure('idempotency.mismatch', 'This Idempotency-Key was used for another snapshot. Use a new key for a new one.')
    }
    const snapshot = await this.get(owner, found.id)
    return { snapshot, settled: this.#underWay.get(snapshot.id)?.settled ?? Promise.resolve(snapshot) }
  }

  #makeInBackground(snapshot: SnapshotRecord, sandbox: SandboxRecord): Promise<SnapshotRecord> {
    const abort = new AbortController()
    const settled = this.#parts.queue
      .run(() => this.#make(snapshot, sandbox, this.#bounded(abort.signal)))
      .finally(() => this.#underWay.delete(snapshot.id))
    settled.catch(() => undefined) // Written to the record and the log where it happened; the caller may not wait for it.
    this.#underWay.set(snapshot.id, { abort, settled, percent: 0 })
    return settled
  }

  #bounded(...signals: AbortSignal[]): AbortSignal {
    return AbortSignal.any([...signals, this.#stopping.signal, AbortSignal.timeout(deadlineMs)])
  }

  async #make(snapshot: SnapshotRecord, sandbox: SandboxRecord, signal: AbortSignal): Promise<SnapshotRecord> {
    const { store, files, lifecycle, log, now } = this.#parts
    const { id } = snapshot
    try {
      signal.throwIfAborted()
      const startedAt = now()
      await lifecycle.whileFrozen(sandbox, async (current) => {
        await files.copy(current.id, id, signal)
        faultPoint('snapshot.copied', id)
      })
      faultPoint('snapshot.thawed', id)
      const stillMs = now() - startedAt
      this.#progress(id, 0)
      const sizeBytes = await files.pack(snapshot, signal, (share) => this.#progress(id, share))
      faultPoint('snapshot.packed', id)
      const result = { state: 'ready', error: undefined, sizeBytes } as const
      await store.finish(snapshot, result)
      faultPoint('snapshot.done', id)
      log.info({ snapshotId: id, sandboxId: sandbox.id, stillMs, durationMs: now() - startedAt, sizeBytes }, 'snapshot made')
      await this.#dropCopy(id)
      return { ...snapshot, ...result }
    } catch (error) {
      const failure = signal.aborted ? interrupted() : toFailure(error)
      log.warn({ snapshotId: id, sandboxId: sandbox.id, code: failure.code, err: error }, 'snapshot could not be made')
      await this.#fail(snapshot, failure)
      throw failure
    }
  }

  async #fail(snapshot: SnapshotRecord, { code, message }: Failure): Promise<void> {
    await this.#parts.files.remove(snapshot.id)
    await this.#parts.store.finish(snapshot, { state: 'failed', error: { code, message }, sizeBytes: 0 })
  }

  /** What is left is taken away at the next start. */
  async #dropCopy(name: string): Promise<void> {
    const { files, log } = this.#parts
    await files.dropCopy(name).catch((error: unknown) => log.error({ name, err: error }, 'a copy of a disk could not be removed'))
  }

  #progress(id: string, share: number): void {
    const one = this.#underWay.get(id)
    if (one) one.percent = Math.floor(copiedPercent + share * (99 - copiedPercent))
  }

  percentOf({ id, state }: SnapshotRecord): number {
    return state === 'ready' ? 100 : (this.#underWay.get(id)?.percent ?? 0)
  }

  /** @throws Failure `snapshot.not_found`, also for somebody else's */
  async get(owner: string | undefined, id: string): Promise<SnapshotRecord> {
    const snapshot = await this.#parts.store.get(id)
    if (snapshot && (owner === undefined || snapshot.owner === owner)) return snapshot
    throw new Failure('snapshot.not_found', `No snapshot ${id.slice(0, 64)} belongs to you. List yours with GET /api/snapshots.`)
  }

  list(filter: SnapshotFilter): Promise<SnapshotRecord[]> {
    return this.#parts.store.list(filter)
  }

  /** Safe to repeat: what is not there is gone. One that is being made is made no further. */
  async remove(owner: string | undefined, id: string): Promise<SnapshotRecord | undefined> {
    const snapshot = await this.get(owner, id).catch((error: unknown) => {
      if (error instanceof Failure && error.code === 'snapshot.not_found') return undefined
      throw error
    })
    if (!snapshot) return undefined
    const making = this.#underWay.get(id)
    making?.abort.abort()
    await making?.settled.catch(() => undefined) // It was told where it happened.
    // Without its record the file is one that the next start takes away.
    await this.#parts.store.remove(snapshot)
    await this.#parts.files.remove(id)
    return snapshot
  }

  /**
   * What a sandbox from a snapshot is made like, and its disk.
   * @throws Failure `snapshot.*`, `request.invalid`, `capacity.exhausted`
   */
  async seedOf(
    id: string,
    spec: CreateSandbox,
    { owner, sees }: { owner: string; sees: string | undefined },
  ): Promise<CreateSandbox & { seed: Seed }> {
    const { files, newId } = this.#parts
    const snapshot = await this.get(sees, id)
    if (snapshot.state !== 'ready') {
      const what =
        snapshot.state === 'creating' ? 'is still being made. Wait until it is ready' : 'could not be made. Delete it and make another'
      throw new Failure('snapshot.not_ready', `Snapshot ${id} ${what}.`, { ...(snapshot.state === 'creating' && { retryAfterMs: 2000 }) })
    }
    await files.check(id)
    await this.#assertDisk(snapshot.template.bytes)
    // What is asked for is set by whoever asks.
    const policy = spec.egress ? undefined : snapshot.template.egress
    const seed = this.#seed(newId('sandbox'), policy, (sandboxId, signal) => files.unpack(snapshot, sandboxId, signal))
    return { ...likeTemplate(spec, snapshot.template), ...serviceOf(spec, snapshot, owner), seed }
  }

  #seed(id: string, policy: EgressPolicy | undefined, image: (sandboxId: string, signal: AbortSignal) => Promise<string>): Seed {
    return {
      id,
      prepare: async (sandbox, signal) => {
        // Before anything runs in it: what was kept from a place must not reach it from a copy.
        if (policy) await this.#parts.egress.set(sandbox, policy, sandbox.owner)
        return image(sandbox.id, this.#bounded(signal))
      },
      discard: () => this.#dropCopy(id),
    }
  }

  /** Copies that run with the disk that the sandbox has now; all or none. @throws Failure as a creation and a snapshot */
  async fork(sandbox: SandboxRecord, spec: CreateSandbox, count: number): Promise<SandboxRecord[]> {
    const { store, files, lifecycle, egress, newId } = this.#parts
    const bytes = await files.diskBytes(sandbox.id)
    await this.#assertDisk((count + 1) * bytes)
    const template = templateOf(sandbox, await egress.own(sandbox.id), bytes)
    const fork: ForkRecord = { id: newId('fork'), sandboxId: sandbox.id, madeIds: Array.from({ length: count }, () => newId('sandbox')) }
    let copying: Promise<void> | undefined
    const copied = (): Promise<void> => {
      copying ??= lifecycle.whileFrozen(sandbox, (current) => files.copy(current.id, fork.id, this.#bounded()))
      return copying
    }
    const seeds = fork.madeIds.map((id) =>
      this.#seed(id, spec.egress ?? template.egress, async (sandboxId, signal) => {
        await copied()
        return files.duplicate(fork.id, sandboxId, signal)
      }),
    )
    const wanted = { ...likeTemplate(spec, template), ...serviceOf(spec, sandbox, sandbox.owner) }
    this.#forking.add(fork.id)
    try {
      await store.openFork(fork)
      faultPoint('fork.recorded', fork.id)
      const made = await lifecycle.fork(sandbox.owner, wanted, seeds)
      faultPoint('fork.begun', fork.id)
      const results = await Promise.allSettled(made.map(({ settled }) => settled))
      const failed = results.find((result) => result.status === 'rejected')
      if (failed) throw failed.reason
      faultPoint('fork.made', fork.id)
      await store.closeFork(fork.id)
      return results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    } catch (error) {
      await this.#undoFork(fork)
      throw error
    } finally {
      this.#forking.delete(fork.id)
      await this.#dropCopy(fork.id)
    }
  }

  async #undoFork({ id, madeIds }: ForkRecord): Promise<void> {
    const { store, lifecycle, log } = this.#parts
    try {
      for (const madeId of madeIds) {
        const made = await lifecycle.get(undefined, madeId).catch(() => undefined) // It was not begun, or is gone.
        if (made) await lifecycle.remove(made, { reason: 'deleted' })
      }
      await store.closeFork(id)
    } catch (error) {
      log.error({ forkId: id, err: error }, 'a fork could not be undone; this is tried again')
    }
  }

  /** Before sandboxes are looked after: takes away what a former run of the operator left half made, and says so. */
  async recover(): Promise<void> {
    const { store, files, log } = this.#parts
    for (const snapshot of await store.list({ state: 'creating' })) {
      log.warn({ snapshotId: snapshot.id }, 'a snapshot was cut off')
      await files.thaw(snapshot.sandboxId)
      await this.#fail(snapshot, interrupted())
    }
    for (const { sandboxId } of await store.forks()) await files.thaw(sandboxId)
    const known = new Set((await store.list({ state: 'ready' })).map(({ id }) => id))
    for (const name of await files.clean(known)) log.warn({ name }, 'removed a file that is of no snapshot')
  }

  /** Undoes forks that nobody is working on any more. Never throws; what fails is tried again the next time. */
  async undoInterruptedForks(): Promise<void> {
    const forks = await this.#parts.store.forks()
    for (const fork of forks) if (!this.#forking.has(fork.id)) await this.#undoFork(fork)
  }

  /** Cuts off what is being made and waits until that is over. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.allSettled([...this.#underWay.values()].map(({ settled }) => settled))
  }

  async #assertDisk(bytes: number): Promise<void> {
    const { limits, freeDiskMb } = this.#parts
    const neededMb = Math.ceil(bytes / 1_048_576)
    const freeMb = await freeDiskMb()
    if (freeMb - neededMb >= limits.diskReserveMb) return
    throw new Failure(
      'capacity.exhausted',
      `The copy may take ${neededMb} MB, and the disk of this operator has ${freeMb} MB free, of which it keeps ${limits.diskReserveMb} MB. Delete a snapshot or a sandbox, or try again later.`,
      { retryAfterMs: 30_000 },
    )
  }
}

const interrupted = (): Failure =>
  new Failure(
    'snapshot.interrupted',
    'The snapshot was cut off: the operator stopped, somebody deleted it, or it took over an hour. Make another.',
  )

const templateOf = (sandbox: SandboxRecord, egress: EgressPolicy | undefined, bytes: number): Template => ({
  ...sizeOfRecord(sandbox),
  runtime: sandbox.runtime,
  image: sandbox.image,
  agentIdentifier: sandbox.agentIdentifier,
  ports: sandbox.ports,
  metadata: sandbox.metadata,
  capabilities: sandbox.capabilities,
  egress,
  bytes,
})
