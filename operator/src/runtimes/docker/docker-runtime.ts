// Sandboxes as hardened containers of a local engine.
import { setTimeout as delay } from 'node:timers/promises'
import { Failure, type RuntimeName } from '@atoll/protocol'
import { sandboxUser, sidecarPaths } from '@atoll/protocol/sidecar'
import type Docker from 'dockerode'
import type { Logger } from 'pino'
import type { WorkspaceDisks } from '../../host/workspace-disk.ts'
import { faultPoint } from '../../sandboxes/faults.ts'
import type { ImageClaim, Observed, Plan, Probe, Running, Runtime, StartContext } from '../../sandboxes/runtime.ts'
import { containerName, containerSpec, labels, mayRaiseLimits } from './container.ts'
import { accepting, Engine, refusalStatus, refusalText } from './engine.ts'
import { Folders, isThere } from './folders.ts'
import { ImageLibrary, withBareContainer } from './image-facts.ts'
import { Images, type ResolvedImage } from './images.ts'
import { logText } from './log-text.ts'
import { probeEngine } from './probe.ts'

export interface DockerRuntimeOptions {
  /** As in DOCKER_HOST: `unix:///var/run/docker.sock`. */
  readonly engineSocket: string
  readonly engineDeadlineMs?: number
  /** Folder with `node`, `sidecar.mjs` and `pty.node`. */
  readonly programDir: string
  readonly runDir: string
  readonly stateDir: string
  readonly operatorId: string
  readonly disks: WorkspaceDisks
  readonly defaultImage: string
  /** Patterns of other images that may be started; none or an empty list: all. */
  readonly allowedImages?: readonly string[]
  readonly pullImages: boolean
  readonly log: Logger
}

const pingDeadlineMs = 5000
const stopGraceSeconds = 2
/** A sidecar that fails at once does so in this time; a slower one is the caller's to wait for. */
const earlyExitMs = 1000

const observedStates: Readonly<Record<string, Observed['state']>> = { running: 'running', restarting: 'running', paused: 'paused' }

const command = [`${sidecarPaths.program}/node`, `${sidecarPaths.program}/sidecar.mjs`]

class DockerRuntime implements Runtime {
  readonly name: RuntimeName = 'docker'
  readonly #options: DockerRuntimeOptions
  readonly #engine: Engine
  readonly #library: ImageLibrary
  readonly #images: Images
  readonly #folders: Folders
  readonly #mayRaise = mayRaiseLimits()

  constructor(options: DockerRuntimeOptions) {
    this.#options = options
    this.#engine = new Engine(options.engineSocket, options.engineDeadlineMs)
    this.#library = new ImageLibrary(this.#engine, options.stateDir, options.operatorId)
    this.#images = new Images({ ...options, engine: this.#engine, library: this.#library })
    this.#folders = new Folders(options.runDir, options.stateDir)
  }

  async ping(signal: AbortSignal): Promise<string | undefined> {
    try {
      await this.#engine.call((docker) => docker.ping(), {
        signal,
        deadlineMs: Math.min(pingDeadlineMs, this.#options.engineDeadlineMs ?? pingDeadlineMs),
      })
      return undefined
    } catch (error) {
      return refusalText(error)
    }
  }

  probe(signal: AbortSignal): Promise<Probe> {
    return probeEngine({ ...this.#options, engine: this.#engine, library: this.#library, mayRaise: this.#mayRaise }, signal)
  }

  imageClaim(image: string): Promise<ImageClaim | undefined> {
    return this.#images.claim(image)
  }

  async start(plan: Plan, context: StartContext): Promise<Running> {
    assertId(plan.id)
    context.signal.throwIfAborted()
    const running = await this.#findRunning(plan.id)
    if (running) return running
    const image = await this.#images.resolve(plan.image, context)
    try {
      context.signal.throwIfAborted()
      return await this.#make(plan, image, context)
    } catch (error) {
      await this.#undo(plan.id)
      throw startFailure(error, context.signal)
    }
  }

  /** A repeated start is answered by what the first one made. */
  async #findRunning(id: string): Promise<Running | undefined> {
    const found = await this.#find(id)
    if (!found) return undefined
    if (found.State !== 'running') {
      // Left by a try that was cut off half-way.
      await this.#removeContainer(found.Id)
      return undefined
    }
    return { socketPath: this.#folders.socket(id), image: found.Labels[labels.image] ?? '' }
  }

  async #make(plan: Plan, image: ResolvedImage, context: StartContext): Promise<Running> {
    context.progress('container_create')
    faultPoint('start.recorded', plan.id)
    const [disk] = await Promise.all([this.#disk(plan), this.#folders.prepare(plan.id)])
    faultPoint('start.disk', plan.id)
    const container = await this.#create(plan, image, disk)
    faultPoint('start.made', plan.id)
    if (image.facts.hasHome && plan.seed === undefined) await this.#fillHome(container, image)
    context.signal.throwIfAborted()
    context.progress('container_start')
    await this.#run(plan.id, container)
    faultPoint('start.started', plan.id)
    context.signal.throwIfAborted()
    return { socketPath: this.#folders.socket(plan.id), image: image.name }
  }

  async #create(plan: Plan, image: ResolvedImage, disk: string): Promise<string> {
    const { programDir, operatorId } = this.#options
    await this.#folders.prepareVolumes(disk, image.volumes)
    const folders = { program: programDir, channel: this.#folders.channel(plan.id), state: this.#folders.state(plan.id), disk }
    const spec = containerSpec({ plan, image, folders, operatorId, command, mayRaise: this.#mayRaise })
    try {
      return (await this.#engine.call((docker) => docker.createContainer(spec))).id
    } catch (error) {
      if (refusalStatus(error) !== 409) throw error
      const name = containerName(plan.id)
      throw new Failure('sandbox.start_failed', `A container named ${name} that is not this operator's stands in the way. Rename it.`)
    }
  }

  #disk({ id, diskGb: sizeGb, seed }: Plan): Promise<string> {
    const owner = { ...sandboxUser, mountingGid: 0 }
    const { disks } = this.#options
    return seed === undefined ? disks.create(id, sizeGb, owner) : disks.createFrom(id, { image: seed, sizeGb }, owner)
  }

  /** Gives a fresh home what the image has there. The engine unpacks it, so that a link in it cannot lead out of the sandbox. */
  async #fillHome(container: string, image: ResolvedImage): Promise<void> {
    await withBareContainer(this.#engine, image.id, this.#options.operatorId, (bare) =>
      this.#engine.call(async (docker, abortSignal) => {
        const content = await docker.getContainer(bare).getArchive({ path: `${sandboxUser.home}/.`, abortSignal })
        await docker.getContainer(container).putArchive(content, { path: sandboxUser.home, abortSignal })
      }),
    )
  }

  /** Starts a container, and finds out when its first process ends at once. */
  async #run(id: string, container: string): Promise<void> {
    await this.#engine.call((docker) => docker.getContainer(container).start())
    const abort = new AbortController()
    const ended = this.#engine
      .call((docker, abortSignal) => docker.getContainer(container).wait({ abortSignal }), { signal: abort.signal })
      .then(() => 'ended' as const)
      .catch(() => 'unknown' as const)
    const outcome = await Promise.race([ended, this.#awaitSocket(id, abort.signal)])
    abort.abort()
    if (outcome === 'ended') throw await this.#earlyExit(container)
  }

  async #awaitSocket(id: string, signal: AbortSignal): Promise<'listening' | 'slow'> {
    const deadline = Date.now() + earlyExitMs
    while (Date.now() < deadline && !signal.aborted) {
      if (await isThere(this.#folders.socket(id))) return 'listening'
      await delay(5)
    }
    return 'slow'
  }

  async #earlyExit(container: string): Promise<Failure> {
    const log = await this.#engine.call((docker) => docker.getContainer(container).logs({ stdout: true, stderr: true, tail: 10 }))
    const { State } = await this.#engine.call((docker) => docker.getContainer(container).inspect())
    const said = logText(log) || State.Error || 'it wrote nothing'
    return new Failure('sandbox.start_failed', `The sandbox ended at once with status ${State.ExitCode}: ${said}`)
  }

  async #undo(id: string): Promise<void> {
    try {
      await this.remove(id)
    } catch (error) {
      // The caller removes it again, and reconcile after that: it carries the operator's label.
      this.#options.log.warn({ sandboxId: id, err: error }, 'what a failed start left could not be removed')
    }
  }

  async stop(id: string): Promise<void> {
    assertId(id)
    const found = await this.#find(id)
    if (found) {
      await this.#thaw(found)
      await this.#refusable(() =>
        accepting(
          [304, 404],
          this.#engine.call((docker) => docker.getContainer(found.Id).stop({ t: stopGraceSeconds })),
        ),
      )
    }
    faultPoint('stop.killed', id)
    if (!(await this.#folders.has(id))) return
    await this.#folders.dropChannel(id)
    await this.#options.disks.detach(id)
  }

  async pause(id: string): Promise<void> {
    const found = await this.#existing(id)
    if (found.State === 'paused') return
    await this.#refusable(() => this.#engine.call((docker) => docker.getContainer(found.Id).pause()))
  }

  async unpause(id: string): Promise<void> {
    await this.#thaw(await this.#existing(id))
  }

  /** The engine neither stops nor removes what is frozen. */
  async #thaw({ Id, State }: Docker.ContainerInfo): Promise<void> {
    if (State !== 'paused') return
    await this.#refusable(() =>
      accepting(
        [404, 409, 500],
        this.#engine.call((docker) => docker.getContainer(Id).unpause()),
      ),
    )
  }

  async #existing(id: string): Promise<Docker.ContainerInfo> {
    assertId(id)
    const found = await this.#find(id)
    if (found) return found
    throw new Failure('sandbox.unreachable', `The container of sandbox ${id} is gone. Stop the sandbox and resume it.`)
  }

  async resume(plan: Plan, context: StartContext): Promise<Running> {
    assertId(plan.id)
    context.signal.throwIfAborted()
    const found = await this.#find(plan.id)
    const socketPath = this.#folders.socket(plan.id)
    const image = found?.Labels[labels.image] ?? plan.image
    if (found?.State === 'running') return { socketPath, image }
    if (found?.State === 'paused') {
      await this.#thaw(found)
      return { socketPath, image }
    }
    if (!(await this.#folders.has(plan.id))) {
      throw new Failure('sandbox.start_failed', `The disk of sandbox ${plan.id} is gone, so it cannot be resumed. Create a new one.`)
    }
    try {
      return await this.#restart(plan, found, context)
    } catch (error) {
      throw startFailure(error, context.signal)
    }
  }

  async #restart(plan: Plan, found: Docker.ContainerInfo | undefined, context: StartContext): Promise<Running> {
    const [disk] = await Promise.all([this.#options.disks.attach(plan.id), this.#folders.renew(plan.id)])
    const socketPath = this.#folders.socket(plan.id)
    faultPoint('resume.disk', plan.id)
    context.progress('container_start')
    if (found && (await this.#isWhole(found))) {
      await this.#run(plan.id, found.Id)
      faultPoint('resume.started', plan.id)
      return { socketPath, image: found.Labels[labels.image] ?? plan.image }
    }
    // All that is worth keeping is on the disk: a container that was taken away, or misses files of the host, is made again.
    if (found) await this.#removeContainer(found.Id)
    const image = await this.#images.resolve(plan.image, context)
    context.signal.throwIfAborted()
    await this.#run(plan.id, await this.#create(plan, image, disk))
    return { socketPath, image: image.name }
  }

  /** Whether everything that the container binds is still there; the engine would make empty directories of what is not. */
  async #isWhole(found: Docker.ContainerInfo): Promise<boolean> {
    const there = await Promise.all(found.Mounts.filter(({ Type }) => Type === 'bind').map(({ Source }) => isThere(Source)))
    return there.every(Boolean)
  }

  async remove(id: string): Promise<void> {
    assertId(id)
    const found = await this.#find(id)
    if (found) {
      await this.#thaw(found)
      await this.#refusable(() => this.#removeContainer(found.Id))
    }
    faultPoint('delete.killed', id)
    if (!(await this.#folders.has(id))) return
    await this.#options.disks.remove(id)
    faultPoint('delete.disk', id)
    await this.#folders.remove(id)
  }

  async list(): Promise<readonly Observed[]> {
    const containers = await this.#containers()
    const seen = new Map<string, Observed>()
    for (const id of await this.#folders.kept()) seen.set(id, this.#observed(id, 'stopped'))
    for (const { Labels, State } of containers) {
      const id = Labels[labels.sandbox]
      if (id) seen.set(id, this.#observed(id, observedStates[State] ?? 'stopped'))
    }
    return [...seen.values()]
  }

  #observed(id: string, state: Observed['state']): Observed {
    return { id, state, socketPath: this.#folders.socket(id) }
  }

  close(): Promise<void> {
    this.#images.close()
    return Promise.resolve()
  }

  async #find(id: string): Promise<Docker.ContainerInfo | undefined> {
    return (await this.#containers([`${labels.sandbox}=${id}`]))[0]
  }

  /** By label, so that a container of somebody else is never touched, whatever its name. */
  #containers(more: readonly string[] = []): Promise<Docker.ContainerInfo[]> {
    const filters = { label: [`${labels.operator}=${this.#options.operatorId}`, ...(more.length > 0 ? more : [labels.sandbox])] }
    return this.#refusable(() => this.#engine.call((docker, abortSignal) => docker.listContainers({ all: true, filters, abortSignal })))
  }

  async #removeContainer(container: string): Promise<void> {
    const removed = await accepting(
      [404, 409],
      this.#engine.call((docker) =>
        docker
          .getContainer(container)
          .remove({ force: true, v: true })
          .then(() => true),
      ),
    )
    if (removed) return
    // 409: somebody else is removing it, and the name is free only once they are done.
    await accepting(
      [404],
      this.#engine.call((docker) => docker.getContainer(container).wait({ condition: 'removed' })),
    )
  }

  /** Of a refusal nothing may be concluded about the sandbox either. */
  async #refusable<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (refusalStatus(error) === undefined) throw error
      throw new Failure('runtime.unavailable', `The Docker engine refused: ${refusalText(error)}`, { cause: error, retryAfterMs: 2000 })
    }
  }
}

/** @throws Failure `sandbox.not_found` for what could not be an id: it becomes part of paths and names */
function assertId(id: string): void {
  if (!/^[a-zA-Z0-9][\w.-]{0,100}$/.test(id)) throw new Failure('sandbox.not_found', 'That cannot be the id of a sandbox.')
}

function startFailure(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason
  if (error instanceof Failure) return error
  return new Failure('sandbox.start_failed', `The sandbox could not be started: ${refusalText(error)}`, { cause: error })
}

export function createDockerRuntime(options: DockerRuntimeOptions): Runtime {
  return new DockerRuntime(options)
}
