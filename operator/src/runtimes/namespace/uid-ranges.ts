// Which host user ids belong to which sandbox: one range of 65536 for each, from a table that all operators of a machine share.
import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '@atoll/protocol'
import { isAlive, type ProcessIdentity, processIdentity } from './process-identity.ts'

export const rangeSize = 65_536
export const defaultRangesDir = '/var/lib/atoll/uid-ranges'
/** Above what systemd gives to its containers, and below the ids that are negative for old programs. */
const firstBase = 0x7000_0000
/** The last range; a table that begins here has one. */
export const lastBase = 0x7fff_0000 - rangeSize

/**
 * The table is a directory with a file for each range that is taken, so that taking one is one exclusive creation, whoever else does so.
 * A range is of a sandbox (the file names its folder) or of a process that keeps it in reserve.
 */
type Holder = { readonly folder: string } | { readonly reserve: ProcessIdentity }

/** The control group of whatever runs with a range: it is there before it is known which sandbox that will be. */
export const groupOf = (base: number): string => `uid-${base}`

interface Span {
  readonly from: number
  readonly to: number
}

/** Ranges that the host has given to users for their own containers. */
function subordinateSpans(): Span[] {
  return ['/etc/subuid', '/etc/subgid'].flatMap((path) => {
    try {
      const lines = readFileSync(path, 'utf8').split('\n')
      return lines.map((line) => line.split(':')).map(([, from, count]) => ({ from: Number(from), to: Number(from) + Number(count) }))
    } catch {
      return [] // Not every host has them.
    }
  })
}

export class UidRanges {
  readonly #first: number
  readonly #table: string
  readonly #sandboxesDir: string
  readonly #reserved: readonly Span[]

  constructor(table: string, sandboxesDir: string, first: number = firstBase) {
    this.#first = first
    this.#table = table
    this.#sandboxesDir = sandboxesDir
    this.#reserved = subordinateSpans()
  }

  /** Frees what an earlier run of this operator, or any process that ended, left taken. `isKnown` tells folders that still exist. */
  async open(isKnown: (folder: string) => boolean): Promise<void> {
    await mkdir(this.#table, { recursive: true, mode: 0o700 })
    for (const base of await this.taken()) {
      const holder = await this.#holderOf(base)
      if (!holder) continue
      const isLeftover = 'folder' in holder ? this.#isOurs(holder.folder) && !isKnown(holder.folder) : !isAlive(holder.reserve)
      if (isLeftover) await this.free(base)
    }
  }

  /** Ranges that somebody has, on this machine. */
  async taken(): Promise<number[]> {
    return (await readdir(this.#table)).filter((name) => /^\d+$/.test(name)).map(Number)
  }

  /** Undefined when it was freed meanwhile. */
  async #holderOf(base: number): Promise<Holder | undefined> {
    try {
      return JSON.parse(await readFile(this.#pathOf(base), 'utf8'))
    } catch {
      return undefined // One that cannot be read stays taken.
    }
  }

  #isOurs(folder: string): boolean {
    return folder.startsWith(`${this.#sandboxesDir}/`)
  }

  /** Takes a free range for this process. @throws Failure `capacity.exhausted` */
  async reserve(): Promise<number> {
    const base = (await this.#takeFree()) ?? ((await this.#reclaim()) > 0 ? await this.#takeFree() : undefined)
    if (base !== undefined) return base
    throw new Failure('capacity.exhausted', `Every range of user ids is taken. ${this.#table} lists them: remove some of these sandboxes.`)
  }

  async #takeFree(): Promise<number | undefined> {
    const taken = new Set(await this.taken())
    const entry = await this.#newEntry({ reserve: processIdentity(process.pid) })
    try {
      for (let base = this.#first; base <= lastBase; base += rangeSize) {
        const isFree = !taken.has(base) && !this.#reserved.some(({ from, to }) => base < to && base + rangeSize > from)
        if (isFree && (await linked(entry, this.#pathOf(base)))) return base
      }
      return undefined
    } finally {
      await rm(entry)
    }
  }

  /**
   * Frees what sandboxes of any operator have left whose folders are gone. Only when nothing else is free: the folders may be on a file
   * system that is not mounted at the moment, and its files must not get another owner before it has to be.
   */
  async #reclaim(): Promise<number> {
    let freed = 0
    for (const base of await this.taken()) {
      const holder = await this.#holderOf(base)
      if (!holder || !('folder' in holder) || existsSync(holder.folder)) continue
      await this.free(base)
      freed += 1
    }
    return freed
  }

  /** Gives a reserved range to a sandbox for as long as its folder is there. */
  async assign(base: number, folder: string): Promise<void> {
    await rename(await this.#newEntry({ folder }), this.#pathOf(base))
  }

  async free(base: number): Promise<void> {
    await rm(this.#pathOf(base), { force: true })
  }

  /** Frees a range that has no sandbox. */
  async freeReserved(base: number): Promise<void> {
    const holder = await this.#holderOf(base)
    if (holder && 'reserve' in holder && holder.reserve.pid === process.pid) await this.free(base)
  }

  /** Frees the range if it is that sandbox's: a second removal must not free what has gone to another one. */
  async release(base: number, folder: string): Promise<void> {
    const holder = await this.#holderOf(base)
    if (holder && 'folder' in holder && holder.folder === folder) await this.free(base)
  }

  /** Written aside, so that an entry of the table is never seen half. */
  async #newEntry(holder: Holder): Promise<string> {
    const path = join(this.#table, `.new-${randomUUID()}`)
    await writeFile(path, JSON.stringify(holder), { mode: 0o600 })
    return path
  }

  #pathOf(base: number): string {
    return join(this.#table, String(base))
  }
}

/** False when somebody else was there first. */
async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}
