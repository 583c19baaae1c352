// Follows the changes below a path. The kernel's notices are only hints where to look: what is told is the difference between what was
// seen before and what is there, so a notice that is lost, or a file system without notices, costs time and never truth.
import { type BigIntStats, watch as watchDirectory } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import path from 'node:path'
import type { WatchEvent } from '@atoll/protocol'
import { isDraft } from './entries.ts'
import { errnoOf } from './file-failure.ts'
import type { Located } from './paths.ts'

const settleMs = 20
const rescanMs = 10_000
const pollMs = 1000

export interface WatchOptions {
  readonly root: Located
  readonly isRecursive: boolean
  readonly emit: (event: WatchEvent) => void
  readonly onError: (error: unknown) => void
  /** How notices are asked for; it throws where there are none. */
  readonly notice?: typeof watchDirectory
}

interface Seen {
  readonly stamp: string
  readonly isDirectory: boolean
}

interface Directory {
  readonly shown: string
  readonly seen: Map<string, Seen>
  stop: () => void
}

const stampOf = (stats: BigIntStats): string =>
  stats.isDirectory()
    ? `directory ${stats.ino} ${stats.mode}`
    : `${stats.ino} ${stats.mode} ${stats.size} ${stats.mtimeNs} ${stats.ctimeNs}`

async function look(file: string): Promise<Seen | undefined> {
  try {
    const stats = await lstat(file, { bigint: true })
    return { stamp: stampOf(stats), isDirectory: stats.isDirectory() }
  } catch (error) {
    const code = errnoOf(error)
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return undefined
    throw error
  }
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    const code = errnoOf(error)
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return []
    throw error
  }
}

export class Watch {
  readonly #options: WatchOptions
  readonly #directories = new Map<string, Directory>()
  /** Names to look at, by directory; true where the kernel said that the contents changed. */
  readonly #hints = new Map<string, Map<string, boolean>>()
  /** The name to look at, when a single file is watched. */
  #only: string | undefined
  #isPolling = false
  #isClosed = false
  #turn: Promise<void> = Promise.resolve()
  #settling: NodeJS.Timeout | undefined
  #rescan: NodeJS.Timeout | undefined

  constructor(options: WatchOptions) {
    this.#options = options
  }

  /** Resolves when everything is seen; from then on changes are told. */
  async start(): Promise<void> {
    const { root } = this.#options
    const found = await lstat(root.real)
    const isDirectory = found.isDirectory()
    if (!isDirectory) this.#only = path.basename(root.real)
    const top = isDirectory ? root : { path: path.dirname(root.path), real: path.dirname(root.real) }
    await this.#enter(top.real, top.path, false)
    this.#plan()
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#settling)
    clearTimeout(this.#rescan)
    for (const directory of this.#directories.values()) directory.stop()
    this.#directories.clear()
  }

  #plan(): void {
    if (this.#isClosed) return
    this.#rescan = setTimeout(
      () => {
        this.#inTurn(() => this.#rescanAll()).then(() => this.#plan(), this.#options.onError)
      },
      this.#isPolling ? pollMs : rescanMs,
    )
  }

  /** One thing after the other, so that no two looks at a name get in each other's way. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  async #rescanAll(): Promise<void> {
    for (const real of [...this.#directories.keys()]) await this.#scan(real, true)
  }

  async #enter(real: string, shown: string, isTold: boolean): Promise<void> {
    if (this.#isClosed || this.#directories.has(real)) return
    // Notices first: what changes during the first look is then looked at again.
    this.#directories.set(real, { shown, seen: new Map(), stop: this.#ask(real) })
    await this.#scan(real, isTold)
  }

  #ask(real: string): () => void {
    const { notice = watchDirectory } = this.#options
    try {
      const watcher = notice(real, (kind, name) => this.#hint(real, name, kind === 'change'))
      watcher.on('error', () => watcher.close())
      return () => watcher.close()
    } catch {
      // The kernel's table is full, or this file system has no notices: then only looking helps.
      this.#isPolling = true
      return () => undefined
    }
  }

  #hint(real: string, name: string | null, isChange: boolean): void {
    if (name === null || this.#isClosed) return
    const names = this.#hints.get(real) ?? new Map<string, boolean>()
    names.set(name, isChange || (names.get(name) ?? false))
    this.#hints.set(real, names)
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined
      this.#inTurn(() => this.#followHints()).catch(this.#options.onError)
    }, settleMs)
  }

  async #followHints(): Promise<void> {
    const hints = [...this.#hints]
    this.#hints.clear()
    for (const [real, names] of hints) for (const [name, isChange] of names) await this.#check(real, name, { isTold: true, isChange })
  }

  async #scan(real: string, isTold: boolean): Promise<void> {
    const directory = this.#directories.get(real)
    if (!directory) return
    const names = new Set([...(await namesIn(real)), ...directory.seen.keys()])
    for (const name of names) await this.#check(real, name, { isTold, isChange: false })
  }

  async #check(real: string, name: string, { isTold, isChange }: { isTold: boolean; isChange: boolean }): Promise<void> {
    const directory = this.#directories.get(real)
    if (!directory || isDraft(name) || (this.#only !== undefined && name !== this.#only)) return
    const known = directory.seen.get(name)
    const after = await look(path.join(real, name))
    const isSameThing = known && after && known.isDirectory === after.isDirectory
    if (known && !isSameThing) this.#gone(real, name)
    if (!after) return
    directory.seen.set(name, after)
    const shown = path.join(directory.shown, name)
    if (!isSameThing) await this.#appeared(path.join(real, name), shown, after, isTold)
    else if (known.stamp !== after.stamp || (isChange && !after.isDirectory)) this.#options.emit({ type: 'changed', path: shown })
  }

  async #appeared(real: string, shown: string, { isDirectory }: Seen, isTold: boolean): Promise<void> {
    if (isTold) this.#options.emit({ type: 'created', path: shown })
    if (isDirectory && this.#options.isRecursive) await this.#enter(real, shown, isTold)
  }

  /** Tells that it is gone, and everything below it first. */
  #gone(real: string, name: string): void {
    const directory = this.#directories.get(real)
    if (!directory) return
    const below = path.join(real, name)
    const inner = this.#directories.get(below)
    if (inner) {
      for (const child of [...inner.seen.keys()]) this.#gone(below, child)
      inner.stop()
      this.#directories.delete(below)
    }
    directory.seen.delete(name)
    this.#options.emit({ type: 'removed', path: path.join(directory.shown, name) })
  }
}
