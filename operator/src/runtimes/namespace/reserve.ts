// Keeps one launcher ready, so that a creation waits for no user namespace and for no move between control groups.
import { randomBytes } from 'node:crypto'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Cgroups } from '../../host/cgroup.ts'
import { type Launcher, openLauncher } from './launcher.ts'
import { groupOf, type UidRanges } from './uid-ranges.ts'

export interface ReserveOptions {
  readonly ranges: UidRanges
  /** Where the log of a launcher stands until it has a sandbox. */
  readonly directory: string
  readonly seccompPath: string
  readonly command: readonly string[]
  readonly cgroups: Cgroups
  readonly log: Logger
}

/** Until it has a sandbox and the limits of that. */
const launcherLimits = { memoryMb: 64, cpuCores: 1, pids: 32 } as const

/** Filled again so long after the ready one was taken, to leave the processor to the creation that took it. */
const refillDelayMs = 80

/** A launcher and the range it has, which is known before it is ready. */
export interface Claim {
  readonly base: number
  readonly launcher: Promise<Launcher>
}

/** Whoever took the claim waits for its launcher, though not at once. */
const handledByTaker = (): void => undefined

export class LauncherReserve {
  readonly #options: ReserveOptions
  #ready: Launcher | undefined
  #filling: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(options: ReserveOptions) {
    this.#options = options
  }

  /** A launcher with a range of its own: the ready one, else a new one. */
  async take(): Promise<Claim> {
    const ready = this.#ready
    this.#ready = undefined
    this.#refillSoon()
    if (ready && !ready.hasEnded) return { base: ready.base, launcher: Promise.resolve(ready) }
    if (ready) await this.#giveUp(ready)
    const base = await this.#options.ranges.reserve()
    const launcher = this.openFor(base)
    launcher.catch(handledByTaker)
    return { base, launcher }
  }

  /** A launcher for a sandbox that has a range already. */
  async openFor(base: number): Promise<Launcher> {
    const launcher = await openLauncher({ ...this.#options, base, logPath: this.#newLogPath() })
    try {
      await this.#confine(launcher)
      return launcher
    } catch (error) {
      await this.#discard(launcher)
      throw error
    }
  }

  /** One that has ended already says why to whoever launches it. */
  async #confine({ base, process }: Launcher): Promise<void> {
    this.#options.cgroups.create(groupOf(base), launcherLimits)
    try {
      await this.#options.cgroups.add(groupOf(base), process.pid)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
    }
  }

  async #discard(launcher: Launcher): Promise<void> {
    await launcher.discard()
    await this.#options.cgroups.kill(groupOf(launcher.base))
    await this.#options.cgroups.remove(groupOf(launcher.base))
    await rm(launcher.logPath, { force: true })
  }

  /** Its log is the sandbox's from here on. */
  async moveLog(launcher: Launcher, path: string): Promise<void> {
    await rename(launcher.logPath, path)
  }

  /** Ends what was claimed. Its range is freed unless a sandbox has got it, which frees it by its own removal. */
  async abandon({ base, launcher }: Claim): Promise<void> {
    const [opened] = await Promise.allSettled([launcher])
    if (opened.status === 'fulfilled') await this.#discard(opened.value)
    await this.#options.ranges.freeReserved(base)
  }

  async #giveUp(launcher: Launcher): Promise<void> {
    await this.#discard(launcher)
    await this.#options.ranges.free(launcher.base)
  }

  #refillSoon(): void {
    if (this.#closed || this.#timer) return
    this.#timer = setTimeout(() => this.#refill(), refillDelayMs)
    this.#timer.unref()
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#filling
    if (this.#ready) await this.#giveUp(this.#ready)
    this.#ready = undefined
  }

  #refill(): void {
    this.#timer = undefined
    if (this.#ready || this.#filling) return
    this.#filling = this.#make()
      .then((launcher) => {
        this.#ready = launcher
      })
      .catch((error: unknown) => {
        // The next creation makes its own, and tells its caller when that fails too.
        this.#options.log.warn({ err: error }, 'no launcher could be kept ready')
      })
      .finally(() => {
        this.#filling = undefined
      })
  }

  async #make(): Promise<Launcher> {
    const base = await this.#options.ranges.reserve()
    try {
      return await this.openFor(base)
    } catch (error) {
      await this.#options.ranges.free(base)
      throw error
    }
  }

  #newLogPath(): string {
    return join(this.#options.directory, `launcher-${process.pid}-${randomBytes(6).toString('hex')}.log`)
  }
}
