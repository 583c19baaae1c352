// The only writer of a sandbox's state. HTTP, workflows, chain jobs, reaper and reconcile are entrances to these functions.
import type { CreateSandbox, EndReason, RuntimeName } from '@atoll/protocol'
import { Failure } from '@atoll/protocol'
import { sizeOfRecord } from './admission.ts'
import { type Created, type CreationParts, Creations, contextOf, planOf, type Wanted } from './creation.ts'
import { faultPoint } from './faults.ts'
import { assertState, Moves } from './moves.ts'
import { Room, type RoomParts } from './room.ts'
import type { Observed, Runtime } from './runtime.ts'
import type { SandboxRecord } from './sandbox.ts'
import type { Seed } from './snapshot-store.ts'
import type { Idempotency } from './store.ts'
import { changeOf, type SandboxUpdate } from './update.ts'

export interface LifecycleParts extends CreationParts, RoomParts {
  readonly runtimes: ReadonlyMap<RuntimeName, Runtime>
}

export class Lifecycle {
  readonly #parts: LifecycleParts
  readonly #moves: Moves
  readonly #room: Room
  readonly #creations: Creations

  constructor(parts: LifecycleParts) {
    this.#parts = parts
    this.#moves = new Moves(parts)
    this.#room = new Room(parts)
    const lent = { runtime: this.runtime.bind(this), get: this.get.bind(this) }
    this.#creations = new Creations({ ...parts, ...lent, moves: this.#moves, room: this.#room })
  }

  /** Admits, remembers, and starts making a sandbox in the background. */
  create(owner: string, spec: Wanted, idempotency?: Idempotency): Promise<Created> {
    return this.#creations.create(owner, spec, idempotency)
  }

  /** As `create`, one for each disk: all are admitted, or none. */
  fork(owner: string, spec: CreateSandbox, seeds: readonly Seed[]): Promise<Created[]> {
    return this.#creations.fork(owner, spec, seeds)
  }

  /** Runs with the sandbox to itself. Its processes, if it has any, stand still meanwhile, and go on whatever fails. */
  whileFrozen<Result>(sandbox: SandboxRecord, work: (current: SandboxRecord) => Promise<Result>): Promise<Result> {
    return this.#moves.exclusive(sandbox.id, async (current) => {
      assertState(current, ['running', 'paused', 'stopped'])
      if (current.state !== 'running') return work(current)
      const runtime = this.runtime(current.runtime)
      await runtime.pause(current.id).catch((error: unknown) => {
        // Then its disk alone stands still, which is what matters to a copy.
        if (!(error instanceof Failure && error.code === 'runtime.unsupported')) throw error
      })
      faultPoint('still.frozen', current.id)
      try {
        return await work(current)
      } finally {
        await this.#letGoOn(current)
      }
    })
  }

  async #letGoOn({ id, runtime }: SandboxRecord): Promise<void> {
    await this.runtime(runtime)
      .unpause(id)
      .catch((error: unknown) => {
        // Reconcile finds it frozen, and lets it go on.
        this.#parts.log.error({ sandboxId: id, err: error }, 'a sandbox that stood still could not be let go on')
      })
  }

  /** Ends every process and keeps the disk. Safe to repeat. An idle sandbox that was used since it was looked at stays as it is. */
  async stop(sandbox: SandboxRecord, reason: 'asked' | 'idle' = 'asked'): Promise<SandboxRecord> {
    return this.#moves.exclusive(sandbox.id, async (current) => {
      if (current.state === 'stopped' || (reason === 'idle' && wasUsed(sandbox, current))) return current
      assertState(current, ['running', 'paused'])
      this.#parts.guests.close(current.id)
      faultPoint('stop.begun', current.id)
      await this.runtime(current.runtime).stop(current.id)
      faultPoint('stop.detached', current.id)
      const change = { socketPath: undefined, stoppedAt: this.#parts.now() }
      const stopped = await this.#moves.move(current, 'stopped', change, { type: 'sandbox.stopped', data: { reason } })
      faultPoint('stop.done', current.id)
      return stopped
    })
  }

  /** Freezes a running sandbox with all that it has in memory. Safe to repeat. An idle one as `stop`. */
  async pause(sandbox: SandboxRecord, reason: 'asked' | 'idle' = 'asked'): Promise<SandboxRecord> {
    return this.#moves.exclusive(sandbox.id, async (current) => {
      if (current.state === 'paused' || (reason === 'idle' && wasUsed(sandbox, current))) return current
      assertState(current, ['running'])
      await this.runtime(current.runtime).pause(current.id)
      faultPoint('pause.frozen', current.id)
      const paused = await this.#moves
        .move(current, 'paused', {}, { type: 'sandbox.paused', data: { reason } })
        .catch(async (error: unknown) => {
          // What cannot be written down is not so.
          await this.#letGoOn(current)
          throw error
        })
      faultPoint('pause.done', current.id)
      return paused
    })
  }

  /** Lets a paused sandbox go on, or starts a stopped one with its disk. Safe to repeat. */
  async resume(sandbox: SandboxRecord): Promise<SandboxRecord> {
    return this.#moves.exclusive(sandbox.id, async (current) => {
      if (current.state === 'running') return current
      assertState(current, ['paused', 'stopped'])
      if (current.state === 'paused') return this.#unpause(current)
      const { id, owner, serviceId } = current
      const request = { owner, serviceId, size: sizeOfRecord(current), isNew: false }
      return this.#room.during(id, request, () => this.#restart(current))
    })
  }

  /** It kept its room, and its processes never knew. */
  async #unpause(current: SandboxRecord): Promise<SandboxRecord> {
    const { guests, secrets, now } = this.#parts
    const runtime = this.runtime(current.runtime)
    await runtime.unpause(current.id)
    faultPoint('unpause.thawed', current.id)
    try {
      // Its secrets may have changed meanwhile, and the operator may be another one.
      const guest = await guests.open(current, current.socketPath ?? '')
      await guest.configure(await secrets.environment(current.id))
    } catch (error) {
      await runtime.pause(current.id)
      throw error
    }
    const resumed = { type: 'sandbox.running', data: { resumed: true } }
    const running = await this.#moves.move(current, 'running', { lastActivityAt: now() }, resumed)
    faultPoint('unpause.done', current.id)
    return running
  }

  /** A sandbox that can be used: the same, or one that its use resumes. */
  async awake(sandbox: SandboxRecord): Promise<SandboxRecord> {
    const isAsleep = sandbox.state === 'paused' || sandbox.state === 'stopped'
    return isAsleep && sandbox.autoResume ? this.resume(sandbox) : sandbox
  }

  /** @throws Failure `sandbox.ended`, `request.invalid` */
  async update(sandbox: SandboxRecord, wanted: SandboxUpdate): Promise<SandboxRecord> {
    return this.#moves.exclusive(sandbox.id, async (current) => {
      assertState(current, ['creating', 'running', 'paused', 'stopped'])
      const change = changeOf(current, wanted, this.#parts.limits)
      const told = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined))
      return this.#moves.change(current, change, { type: 'sandbox.changed', data: told })
    })
  }

  async #restart(current: SandboxRecord): Promise<SandboxRecord> {
    const { now, log, guests } = this.#parts
    const runtime = this.runtime(current.runtime)
    const signal = AbortSignal.timeout(this.#parts.readyDeadlineMs * 2)
    faultPoint('resume.admitted', current.id)
    try {
      const running = await runtime.resume(planOf(current), contextOf(this.#parts, current, signal))
      const guest = await guests.open(current, running.socketPath)
      await guest.ready(this.#parts.readyDeadlineMs, signal)
      await guest.configure(await this.#parts.secrets.environment(current.id))
      faultPoint('resume.configured', current.id)
      const change = { socketPath: running.socketPath, stoppedAt: undefined, lastActivityAt: now() }
      const resumed = await this.#moves.move(current, 'running', change, { type: 'sandbox.running', data: { resumed: true } })
      faultPoint('resume.done', current.id)
      return resumed
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
    this.#creations.abort(sandbox.id)
    await this.#moves.exclusive(sandbox.id, async (current) => {
      if (isDeleted(current)) return
      // Why is written down first: whoever finishes an interrupted removal finds it.
      const event = { type: 'sandbox.deleting', data: { reason: end.reason } }
      const deleting = current.state === 'deleting' ? current : await this.#moves.move(current, 'deleting', { end }, event)
      faultPoint('delete.recorded', current.id)
      this.#parts.guests.close(current.id)
      await this.runtime(current.runtime).remove(current.id)
      faultPoint('delete.gone', current.id)
      await this.#moves.end(deleting, end)
      faultPoint('delete.done', current.id)
      this.#parts.log.info({ sandboxId: current.id, reason: end.reason }, 'sandbox removed')
    })
  }

  /**
   * What the engine shows is written down: the sandbox was found stopped, or is not there any more. One that runs or is frozen and should
   * not be is made what it should be: the operator did not live to finish it, or to write it down. Whoever changed the sandbox meanwhile is
   * right.
   */
  async observed(sandbox: SandboxRecord, seen: Observed['state'] | 'gone'): Promise<void> {
    await this.#moves.exclusive(sandbox.id, async (current) => {
      if (current.version !== sandbox.version) return
      const runtime = this.runtime(current.runtime)
      if (current.state === 'stopped' && seen !== 'gone') return runtime.stop(current.id)
      if (seen === 'paused') return runtime.unpause(current.id)
      if (seen === 'running') return runtime.pause(current.id)
      this.#parts.guests.close(current.id)
      if (seen === 'gone')
        return void (await this.#moves.end(current, { reason: 'node_lost', message: 'The runtime does not have it any more.' }))
      const change = { socketPath: undefined, stoppedAt: this.#parts.now() }
      await this.#moves.move(current, 'stopped', change, { type: 'sandbox.stopped', data: { reason: 'found_stopped' } })
    })
  }

  /** A creation that no process of the operator is working on any more is undone. */
  abandonInterrupted(sandbox: SandboxRecord): Promise<void> {
    return this.#creations.abandonInterrupted(sandbox)
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
  settle(): Promise<void> {
    return this.#creations.settle()
  }
}

/** A removal that is under way has its reason already. */
const isDeleted = ({ state, end }: SandboxRecord): boolean => state === 'ended' && end?.reason === 'deleted'

/** Whether somebody has used or changed the sandbox since it was looked at. */
const wasUsed = (before: SandboxRecord, now: SandboxRecord): boolean =>
  now.version !== before.version || now.lastActivityAt !== before.lastActivityAt
