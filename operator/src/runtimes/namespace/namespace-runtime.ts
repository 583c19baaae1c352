// Sandboxes from bubblewrap: namespaces, a system call filter and control groups, with no engine. Needs root and one package.
import { createHash } from 'node:crypto'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { chown, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '@atoll/protocol'
import { sandboxUser, sidecarPaths } from '@atoll/protocol/sidecar'
import type { Logger } from 'pino'
import type { Cgroups } from '../../host/cgroup.ts'
import { clearSidecarState } from '../../host/sidecar-state.ts'
import type { DiskOwner, WorkspaceDisks } from '../../host/workspace-disk.ts'
import { faultPoint } from '../../sandboxes/faults.ts'
import type { ImageClaim, Observed, Plan, Probe, Running, Runtime, StartContext } from '../../sandboxes/runtime.ts'
import type { Launcher } from './launcher.ts'
import { type Machine, prepareMachine } from './machine.ts'
import { probeNamespace } from './probe.ts'
import { endProcesses, isAbandoned, isRunning } from './processes.ts'
import { imageDirectory, sandboxArgs } from './root-file-system.ts'
import { SandboxFolders, type SandboxRecord } from './sandbox-folder.ts'
import { limitTerminals } from './terminals-share.ts'
import { groupOf } from './uid-ranges.ts'

export interface NamespaceRuntimeOptions {
  /** Directory of `node`, `sidecar.mjs` and `pty.node`. */
  readonly programDir: string
  /** Guest channels, such as /run/atoll. */
  readonly runDir: string
  readonly stateDir: string
  readonly operatorId: string
  readonly disks: WorkspaceDisks
  readonly cgroups: Cgroups
  readonly log: Logger
  /** The table of user ids that all operators of this machine share. */
  readonly uidRangesDir?: string
}

/** What the sidecar takes to end its processes and itself. */
const stopGraceMs = 2000
const socketDeadlineMs = 30_000
const socketPollMs = 3
const oomScore = '-500'
/** Names the harnesses of a folder, and is written when they are there. */
const claimsName = 'claims.json'

class NamespaceRuntime implements Runtime {
  readonly name = 'namespace'
  readonly #options: NamespaceRuntimeOptions
  readonly #folders: SandboxFolders
  readonly #hidden = new Set<string>()
  #machine: Promise<Machine | string> | undefined

  constructor(options: NamespaceRuntimeOptions) {
    this.#options = options
    this.#folders = new SandboxFolders(options.stateDir, options.runDir)
  }

  async probe(signal: AbortSignal): Promise<Probe> {
    const { disks, cgroups } = this.#options
    const hide = (id: string): Disposable => {
      this.#hidden.add(id)
      return { [Symbol.dispose]: () => this.#hidden.delete(id) }
    }
    return probeNamespace({ runtime: this, disks, cgroups, hide }, signal)
  }

  async ping(): Promise<string | undefined> {
    const machine = await this.#prepared()
    return typeof machine === 'string' ? machine : undefined
  }

  /** Asked again until it succeeds, since somebody may install what is missing. */
  async #prepared(): Promise<Machine | string> {
    this.#machine ??= prepareMachine(this.#options, this.#folders)
    try {
      const machine = await this.#machine
      if (typeof machine === 'string') this.#machine = undefined
      return machine
    } catch (error) {
      this.#machine = undefined
      return `the machine could not be prepared: ${String(error)}`
    }
  }

  async #usable(): Promise<Machine> {
    const machine = await this.#prepared()
    if (typeof machine === 'string') throw new Failure('runtime.unavailable', `Namespace sandboxes do not work: ${machine}.`)
    return machine
  }

  async start(plan: Plan, context: StartContext): Promise<Running> {
    const socketPath = this.#folders.socketOf(plan.id)
    const machine = await this.#usable()
    context.signal.throwIfAborted()
    const rootfs = imageDirectory(plan.image, machine.rootfsDir)
    if (this.#folders.read(plan.id)) return this.resume(plan, context)
    try {
      return { socketPath, image: await this.#create(machine, { plan, rootfs, context }) }
    } catch (error) {
      await this.remove(plan.id).catch((left: unknown) => {
        this.#options.log.error({ sandboxId: plan.id, err: left }, 'what was left of a failed start could not be removed')
      })
      throw startFailure(error, plan.id)
    }
  }

  async #create(machine: Machine, { plan, rootfs, context }: Creation): Promise<string> {
    context.progress('container_create')
    const claim = await machine.reserve.take()
    const { base } = claim
    const image = rootfs === undefined ? 'host' : plan.image
    const record: SandboxRecord = { runtime: 'namespace', plan, image, base }
    try {
      // The record comes first: whatever else is made can be found and removed through it.
      await this.#folders.write(record, 'quick')
      faultPoint('start.recorded', plan.id)
      await machine.ranges.assign(base, this.#folders.of(plan.id))
      const user = { uid: base + sandboxUser.uid, gid: base + sandboxUser.gid, mountingGid: base }
      const [launcher, disk] = await Promise.all([claim.launcher, diskOf(this.#options.disks, plan, user)])
      faultPoint('start.disk', plan.id)
      await this.#launch(machine, { launcher, record, disk, root: machine.rootOf(image, rootfs), context })
      return image
    } catch (error) {
      await machine.reserve.abandon(claim)
      throw error
    }
  }

  async #launch(machine: Machine, { launcher, record, disk, root, context }: Launch): Promise<void> {
    const { cgroups } = this.#options
    const { plan, base } = record
    const sidecar = join(this.#folders.of(plan.id), 'sidecar')
    const channel = this.#folders.channelOf(plan.id)
    // Of an earlier run: a dead socket, and logs of processes that nobody remembers.
    await Promise.all([rm(channel, { recursive: true, force: true }), clearSidecarState(sidecar)])
    await Promise.all([makeOwned(channel, base), makeOwned(sidecar, base), machine.reserve.moveLog(launcher, this.#folders.logOf(plan.id))])
    // Limits and protection are on the one process from which all others of the sandbox come, before it makes any.
    cgroups.create(groupOf(base), plan)
    this.#protect(launcher.process.pid)
    const launched: SandboxRecord = { ...record, monitor: launcher.process }
    await this.#folders.write(launched, 'quick')
    faultPoint('start.made', plan.id)
    context.signal.throwIfAborted()
    context.progress('container_start')
    const first = await launcher.launch(
      sandboxArgs(root, { program: machine.programDir, harnesses: this.#harnesses(), channel, sidecar, disk }),
    )
    faultPoint('start.started', plan.id)
    if (first === undefined) throw await this.#diedEarly(plan.id, launcher)
    const written = this.#folders.write({ ...launched, first }, 'lasting')
    try {
      await this.#untilListening(plan.id, launcher, context.signal)
      await limitTerminals(first.pid).catch((error: unknown) => {
        this.#options.log.warn({ sandboxId: plan.id, err: error }, 'a sandbox may take the pseudo-terminals of the others')
      })
    } finally {
      await written
    }
  }

  #harnesses(): string | undefined {
    const directory = join(this.#options.stateDir, 'harnesses')
    return existsSync(join(directory, claimsName)) ? directory : undefined
  }

  async imageClaim(image: string): Promise<ImageClaim | undefined> {
    const machine = await this.#usable()
    const rootfs = imageDirectory(image, machine.rootfsDir)
    const directory = this.#harnesses() ?? (rootfs && join(rootfs, sidecarPaths.harnesses))
    const claims = directory && statSync(join(directory, claimsName), { throwIfNoEntry: false })
    // The file is written anew by each installation, also by one of the same harnesses in another version.
    const id = createHash('sha256').update(`${rootfs ?? 'host'}\n${claims ? claims.mtimeMs : ''}`)
    return { id: `sha256:${id.digest('hex')}`, claimsHarnesses: claims !== undefined }
  }

  /** Makes the kernel prefer any other process of the sandbox when memory runs out. */
  #protect(pid: number): void {
    try {
      writeFileSync(`/proc/${pid}/oom_score_adj`, oomScore)
    } catch (error) {
      // A root without CAP_SYS_RESOURCE may not; the kernel's own choice, the largest process, is hardly ever the sidecar.
      this.#options.log.debug({ err: error }, 'a sidecar could not be protected from running out of memory')
    }
  }

  /** Waits here, where an early death is seen with its reason, and not in whoever would knock on a door that never opens. */
  async #untilListening(id: string, launcher: Launcher, signal: AbortSignal): Promise<void> {
    const socketPath = this.#folders.socketOf(id)
    const deadline = Date.now() + socketDeadlineMs
    while (!existsSync(socketPath)) {
      signal.throwIfAborted()
      if (launcher.hasEnded) throw await this.#diedEarly(id, launcher)
      if (Date.now() > deadline) {
        throw new Failure('sandbox.start_failed', `The sidecar did not listen within ${socketDeadlineMs / 1000} s.${this.#said(id)}`)
      }
      await delay(socketPollMs)
    }
  }

  async #diedEarly(id: string, launcher: Launcher): Promise<Failure> {
    return new Failure('sandbox.start_failed', `The sandbox ended while it was starting: it ${await launcher.ended}.${this.#said(id)}`)
  }

  #said(id: string): string {
    const tail = this.#folders.logTail(id)
    return tail === '' ? '' : ` Its last words: ${tail}`
  }

  async resume(plan: Plan, context: StartContext): Promise<Running> {
    const socketPath = this.#folders.socketOf(plan.id)
    const known = this.#folders.read(plan.id)
    if (!known) throw new Failure('sandbox.not_found', `There is no sandbox ${plan.id} to resume.`)
    if (isRunning(known)) {
      await this.#options.cgroups.thaw(groupOf(known.base))
      return { socketPath, image: known.image }
    }
    const machine = await this.#usable()
    context.signal.throwIfAborted()
    const rootfs = imageDirectory(known.image, machine.rootfsDir)
    const { base, image } = known
    context.progress('container_create')
    await this.#end(known, 0)
    const launcher = await machine.reserve.openFor(base)
    try {
      const disk = await this.#options.disks.attach(plan.id)
      faultPoint('resume.disk', plan.id)
      const record: SandboxRecord = { runtime: 'namespace', plan, image, base }
      await this.#launch(machine, { launcher, record, disk, root: machine.rootOf(image, rootfs), context })
      faultPoint('resume.started', plan.id)
      return { socketPath, image }
    } catch (error) {
      await launcher.discard()
      await this.stop(plan.id)
      throw startFailure(error, plan.id)
    }
  }

  async pause(id: string): Promise<void> {
    await this.#options.cgroups.freeze(groupOf(this.#running(id).base))
  }

  async unpause(id: string): Promise<void> {
    await this.#options.cgroups.thaw(groupOf(this.#running(id).base))
  }

  #running(id: string): SandboxRecord {
    const record = this.#folders.read(id)
    if (record && isRunning(record)) return record
    throw new Failure('sandbox.unreachable', `Sandbox ${id} does not run any more. Stop it and resume it.`)
  }

  async stop(id: string): Promise<void> {
    const record = this.#folders.read(id)
    if (!record) return
    await this.#end(record, stopGraceMs)
    faultPoint('stop.killed', id)
    await this.#options.disks.detach(id)
    const { runtime, plan, image, base } = record
    await this.#folders.write({ runtime, plan, image, base }, 'lasting')
  }

  async remove(id: string): Promise<void> {
    const record = this.#folders.read(id)
    if (!record) return this.#removeUnmarked(id)
    await this.#end(record, 0)
    faultPoint('delete.killed', id)
    await this.#options.disks.remove(id)
    faultPoint('delete.disk', id)
    await this.#folders.remove(id)
    const machine = await this.#prepared()
    if (typeof machine !== 'string') await machine.ranges.release(record.base, this.#folders.of(id))
  }

  async #removeUnmarked(id: string): Promise<void> {
    if (!(await this.#folders.unmarked()).includes(id)) return
    await this.#options.disks.remove(id)
    await this.#folders.remove(id)
  }

  /** Ends the processes and takes away what is there only while they run. */
  async #end(record: SandboxRecord, graceMs: number): Promise<void> {
    const { id } = record.plan
    await endProcesses(record, this.#options.cgroups, graceMs)
    await this.#options.cgroups.remove(groupOf(record.base))
    await rm(this.#folders.channelOf(id), { recursive: true, force: true })
  }

  async list(): Promise<readonly Observed[]> {
    const observed: Observed[] = []
    for (const id of await this.#folders.ids()) {
      const record = this.#folders.read(id)
      if (!record || this.#hidden.has(id)) continue
      this.#folders.capLog(id)
      if (isAbandoned(record)) await endProcesses(record, this.#options.cgroups, 0)
      const isFrozen = this.#options.cgroups.isFrozen(groupOf(record.base))
      observed.push({
        id,
        state: isRunning(record) ? (isFrozen ? 'paused' : 'running') : 'stopped',
        socketPath: this.#folders.socketOf(id),
      })
    }
    for (const id of await this.#folders.unmarked()) {
      if (!this.#hidden.has(id)) observed.push({ id, state: 'stopped', socketPath: this.#folders.socketOf(id) })
    }
    return observed
  }

  async close(): Promise<void> {
    const machine = await this.#machine
    if (machine && typeof machine !== 'string') await machine.reserve.close()
  }
}

function diskOf(disks: WorkspaceDisks, { id, diskGb: sizeGb, seed }: Plan, owner: DiskOwner): Promise<string> {
  return seed === undefined ? disks.create(id, sizeGb, owner) : disks.createFrom(id, { image: seed, sizeGb }, owner)
}

interface Creation {
  readonly plan: Plan
  readonly rootfs: string | undefined
  readonly context: StartContext
}

interface Launch {
  readonly launcher: Launcher
  readonly record: SandboxRecord
  readonly disk: string
  readonly root: readonly string[]
  readonly context: StartContext
}

/** A directory of the sandbox's own uid 0 alone. */
async function makeOwned(directory: string, base: number): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await chown(directory, base, base)
}

/** An abort stays what it is. */
function startFailure(error: unknown, id: string): unknown {
  if (error instanceof Failure || (error instanceof Error && error.name === 'AbortError')) return error
  return new Failure('sandbox.start_failed', `Sandbox ${id} could not be started: ${error instanceof Error ? error.message : error}`, {
    cause: error,
  })
}

export const createNamespaceRuntime = (options: NamespaceRuntimeOptions): Runtime => new NamespaceRuntime(options)
