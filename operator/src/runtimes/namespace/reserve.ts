// Keeps one launcher ready, so that a creation waits for no user namespace.
import { randomBytes } from 'node:crypto'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { type Launcher, openLauncher } from './launcher.ts'
import type { UidRanges } from './uid-ranges.ts'

export interface ReserveOptions {
  readonly ranges: UidRanges
  /** Where the log of a launcher stands until it has a sandbox. */
  readonly directory: string
  readonly seccompPath: string
  readonly command: readonly string[]
  readonly log: Logger
}

/** Filled again only after creations have been quiet for so long, to leave the processor to them. */
const refillDelayMs = 400

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
  async take(): Promise<Launcher> {
    const ready = this.#ready
    this.#ready = undefined
    this.refillSoon()
    if (ready && !ready.hasEnded) return ready
    if (ready) await this.giveBack(ready)
    return this.#make()
  }

  /** A launcher for a sandbox that has a range already. */
  openFor(base: number): Promise<Launcher> {
    return openLauncher({ ...this.#options, base, logPath: this.#newLogPath() })
  }

  /** Its log is the sandbox's from here on. */
  async moveLog(launcher: Launcher, path: string): Promise<void> {
    await rename(launcher.logPath, path)
  }

  /** Ends a launcher that got no sandbox; its range is free again. */
  async giveBack(launcher: Launcher): Promise<void> {
    await launcher.discard()
    await rm(launcher.logPath, { force: true })
    await this.#options.ranges.free(launcher.base)
  }

  refillSoon(): void {
    clearTimeout(this.#timer)
    if (this.#closed) return
    this.#timer = setTimeout(() => this.#refill(), refillDelayMs)
    this.#timer.unref()
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#filling
    if (this.#ready) await this.giveBack(this.#ready)
    this.#ready = undefined
  }

  #refill(): void {
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
      return await openLauncher({ ...this.#options, base, logPath: this.#newLogPath() })
    } catch (error) {
      await this.#options.ranges.free(base)
      throw error
    }
  }

  #newLogPath(): string {
    return join(this.#options.directory, `launcher-${process.pid}-${randomBytes(6).toString('hex')}.log`)
  }
}
