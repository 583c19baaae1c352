// Reads what agents did in a stopped sandbox by a process of the sidecar program for each, outside of the sandbox and without any rights.
import { lstat, mkdir } from 'node:fs/promises'
import path from 'node:path'
import { Failure } from '@atoll/protocol'
import { sidecarPaths } from '@atoll/protocol/sidecar'
import type { Logger } from 'pino'
import type { OpenGuest } from '../sandboxes/guest.ts'
import type { History, Reader } from '../sandboxes/history.ts'
import { HistoryProcess, unreadable } from './history-process.ts'

export interface HistoryReadersOptions {
  /** Folder with `node` and `sidecar.mjs`. */
  readonly programDir: string
  readonly stateDir: string
  readonly runDir: string
  readonly openGuest: OpenGuest
  readonly log: Pick<Logger, 'warn'>
}

/** Processes at once, each of some 60 MB. */
const most = 8
/** Below the ids that sandboxes have, and of nobody: one for each process, so that none can do anything to another. */
const firstUid = 0x6fff_0000
const idleMs = 20_000
/** Who reads for longer makes room when another one waits: a slow reader must not keep all others out. It goes on by its cursor. */
const turnMs = 10_000
/** What is read when a sandbox is resumed or removed may go on for so long. */
const graceMs = 5000

const isBusy = (error: unknown): boolean => error instanceof Failure && error.code === 'request.busy'

interface Opened {
  readonly version: number
  readonly process: Promise<HistoryProcess>
  readonly startedAt: number
  users: number
  isRetired: boolean
  timer: NodeJS.Timeout | undefined
}

export class HistoryReaders implements History {
  readonly #options: HistoryReadersOptions
  readonly #opened = new Map<string, Opened>()
  /** By the number of its user. Undefined while it starts. */
  readonly #slots = new Map<number, HistoryProcess | undefined>()
  #isClosed = false

  constructor(options: HistoryReadersOptions) {
    this.#options = options
  }

  async open(id: string, version: number): Promise<Reader> {
    const opened = this.#openedAt(id, version)
    opened.users += 1
    clearTimeout(opened.timer)
    let isReleased = false
    const release = (): void => {
      if (isReleased) return
      isReleased = true
      this.#released(id, opened)
    }
    try {
      const { guest } = await opened.process
      return { guest, release }
    } catch (error) {
      release()
      throw error
    }
  }

  #openedAt(id: string, version: number): Opened {
    const known = this.#opened.get(id)
    if (known?.version === version) return known
    this.close(id)
    const startedAt = performance.now()
    const opened: Opened = { version, process: this.#start(id), startedAt, users: 0, isRetired: false, timer: undefined }
    this.#opened.set(id, opened)
    const forget = (): void => this.#forget(id, opened)
    opened.process.then(
      ({ ended }) => ended.then(forget),
      // What cannot be read is told again for a while, at no cost.
      (error: unknown) => isBusy(error) && forget(),
    )
    return opened
  }

  #forget(id: string, opened: Opened): void {
    clearTimeout(opened.timer)
    if (this.#opened.get(id) === opened) this.#opened.delete(id)
  }

  #released(id: string, opened: Opened): void {
    opened.users -= 1
    if (opened.users > 0) return
    // The one that was used last stands last, and is the last to make room.
    if (this.#opened.get(id) === opened) {
      this.#opened.delete(id)
      this.#opened.set(id, opened)
    }
    if (opened.isRetired) this.#end(opened)
    else opened.timer = setTimeout(() => this.#opened.get(id) === opened && this.close(id), idleMs).unref()
  }

  #end(opened: Opened): void {
    clearTimeout(opened.timer)
    opened.process.then((process) => process.kill()).catch(() => undefined)
  }

  close(id: string): void {
    const opened = this.#opened.get(id)
    if (!opened) return
    this.#forget(id, opened)
    opened.isRetired = true
    if (opened.users === 0) this.#end(opened)
    else opened.timer = setTimeout(() => this.#end(opened), graceMs).unref()
  }

  async closeAll(): Promise<void> {
    this.#isClosed = true
    for (const id of [...this.#opened.keys()]) this.close(id)
    const running = [...this.#slots.values()].filter((process) => process !== undefined)
    for (const process of running) process.kill()
    await Promise.all(running.map(({ ended }) => ended))
  }

  async #start(id: string): Promise<HistoryProcess> {
    const slot = await this.#slot(id)
    try {
      const process = await this.#spawn(id, slot)
      this.#slots.set(slot, process)
      void process.ended.then(() => this.#slots.delete(slot))
      if (this.#isClosed) process.kill()
      await process.ready()
      return process
    } catch (error) {
      const process = this.#slots.get(slot)
      if (process) process.kill()
      else this.#slots.delete(slot)
      this.#options.log.warn({ sandboxId: id, err: error }, 'the history of a stopped sandbox cannot be read')
      throw unreadable(error)
    }
  }

  /** A free number, made free where somebody has one and reads nothing. */
  async #slot(forId: string): Promise<number> {
    for (;;) {
      const free = Array.from({ length: most }, (_, index) => firstUid + index).find((uid) => !this.#slots.has(uid))
      if (free !== undefined) {
        this.#slots.set(free, undefined)
        return free
      }
      const [id, opened] = this.#whoMakesRoom(forId)
      this.close(id)
      this.#end(opened)
      await opened.process.then(({ ended }) => ended).catch(() => undefined)
    }
  }

  /** @throws Failure `request.busy` */
  #whoMakesRoom(forId: string): [string, Opened] {
    const all = [...this.#opened].filter(([id]) => id !== forId)
    const hadTurn = ({ startedAt }: Opened): boolean => performance.now() - startedAt > turnMs
    const found = all.find(([, { users }]) => users === 0) ?? all.find(([, opened]) => hadTurn(opened))
    if (found) return found
    throw new Failure('request.busy', `The histories of ${most} stopped sandboxes are being read.`, { retryAfterMs: 1000 })
  }

  async #spawn(id: string, uid: number): Promise<HistoryProcess> {
    const { programDir, stateDir, runDir, openGuest } = this.#options
    const directory = path.join(stateDir, 'sandboxes', id, 'sidecar', sidecarPaths.lastingState)
    // A sandbox may have put something else in its place, as a way to somewhere else.
    if (!(await lstat(directory)).isDirectory()) throw new Error('the folder of the conversations is none')
    const sockets = path.join(runDir, 'history')
    await mkdir(sockets, { recursive: true, mode: 0o700 })
    // Two may be there for a moment: one that is read still, and its successor.
    const socketPath = path.join(sockets, `${id}-${uid - firstUid}.sock`)
    return new HistoryProcess({ programDir, directory, socketPath, uid, openGuest })
  }
}
