// Directories of really limited size for sandboxes: each is an ext4 file system in a sparse file, mounted through a loop device.
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { access, chmod, chown, mkdir, open, readdir, realpath, rename, rm, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { runCommand } from './command.ts'
import { copyMounted, copySparse, thawFileSystem } from './disk-copy.ts'
import { giveDisk } from './disk-owners.ts'
import { isMounted, unmountBelow } from './mounts.ts'

export interface DiskOwner {
  readonly uid: number
  readonly gid: number
  /** Beside root, who may pass to what is on the disk, which is nobody else's on this machine: the group of what mounts it into the sandbox. */
  readonly mountingGid: number
}

export interface WorkspaceDisks {
  /** True when the size of a disk really limits it, else why not and what to do. */
  support(): Promise<true | string>
  /** A directory with `home` and, in it, `workspace` (both of the owner) and `tmp` (of everybody). Keeps what an earlier call made. */
  create(id: string, sizeGb: number, owner: DiskOwner): Promise<string>
  /** As `create`, with the content of an image that is this disk's then, and not smaller than that was. */
  createFrom(id: string, seed: DiskSeed, owner: DiskOwner): Promise<string>
  /** What a disk really takes; undefined when it is no image that could be copied. */
  bytes(id: string): Promise<number | undefined>
  /** Copies the image of a disk; nothing is written to that meanwhile. Half of a copy is the caller's to remove. */
  copy(id: string, to: string, signal: AbortSignal): Promise<void>
  /** A disk that a copy which was cut off has left frozen takes writes again. Safe to repeat. */
  thaw(id: string): Promise<void>
  /** The directory of a disk that exists, mounted again when it is not, as after a reboot. */
  attach(id: string): Promise<string>
  /** Flushes and unmounts; the disk keeps its content. Safe to repeat. */
  detach(id: string): Promise<void>
  /** Ends the disk and its content. Safe to repeat. */
  remove(id: string): Promise<void>
  /** Gives up the blank disks; sandboxes keep theirs. */
  close(): Promise<void>
}

export interface DiskSeed {
  /** On the file system of the disks. */
  readonly image: string
  readonly sizeGb: number
}

export interface WorkspaceDiskOptions {
  readonly stateDir: string
  readonly log?: Logger
  readonly now?: () => number
  /** Size of the blank disks that are kept ready; 0 keeps none. */
  readonly readySizeGb?: number
  readonly readyCount?: number
}

/** Blank disks are made again so long after one was claimed, to leave the processor to the creation that claimed it. */
const refillDelayMs = 80
/** A host that cannot is asked again after this time: somebody may have installed what was missing. */
const refusalKeptMs = 60_000
const mountOptions = 'loop,nosuid,nodev,noatime,discard,noinit_itable'

const imageOf = (disk: string): string => join(disk, 'disk.img')
const rootOf = (disk: string): string => join(disk, 'root')

/** Searchable and not listable: a sandbox's own host user must get to its directory. */
async function makePassable(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  await chmod(directory, 0o711)
}

const bytesOf = (sizeGb: number): number => Math.ceil(sizeGb * 1024) * 1024 * 1024

async function makeImage(path: string, sizeGb: number): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.truncate(bytesOf(sizeGb))
  } finally {
    await file.close()
  }
  await runCommand('mkfs.ext4', ['-q', '-m0', '-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard', path])
}

async function mountDisk(disk: string): Promise<void> {
  if (await isMounted(rootOf(disk))) return
  await mkdir(rootOf(disk), { recursive: true })
  await runCommand('mount', ['-t', 'ext4', '-o', mountOptions, imageOf(disk), rootOf(disk)])
}

/** Makes an image, and the file system in it, as large as a disk of this size; one that is as large already stays as it is. */
async function growImage(image: string, sizeGb: number): Promise<void> {
  if ((await stat(image)).size >= bytesOf(sizeGb)) return
  await truncate(image, bytesOf(sizeGb))
  // Not while it is mounted, which takes a capability that locked-down machines lack. Status 1: it mended something.
  await runCommand('sh', ['-c', 'e2fsck -fp "$0" || [ $? -eq 1 ]', image])
  await runCommand('resize2fs', [image])
}

async function removeDisk(disk: string): Promise<void> {
  await unmountBelow(disk)
  await rm(disk, { recursive: true, force: true })
}

/** Gives a blank disk its directories. */
async function furnish(disk: string, owner: DiskOwner): Promise<void> {
  const root = rootOf(disk)
  await chown(root, -1, owner.mountingGid)
  await chmod(root, 0o710)
  for (const name of ['home', 'home/workspace']) {
    await mkdir(join(root, name), { recursive: true })
    await chmod(join(root, name), 0o755)
    await chown(join(root, name), owner.uid, owner.gid)
  }
  await mkdir(join(root, 'tmp'), { recursive: true })
  await chmod(join(root, 'tmp'), 0o1777)
}

class LoopDisks implements WorkspaceDisks {
  readonly #sandboxesDir: string
  readonly #blanksDir: string
  readonly #log: Logger | undefined
  readonly #now: () => number
  readonly #readySizeGb: number
  readonly #readyCount: number
  readonly #ready: string[] = []
  #support: Promise<true | string> | undefined
  #supportUntil = 0
  #refill: Promise<void> | undefined
  #refillTimer: NodeJS.Timeout | undefined
  #closed = false

  constructor(stateDir: string, options: WorkspaceDiskOptions) {
    this.#sandboxesDir = join(stateDir, 'sandboxes')
    this.#blanksDir = join(stateDir, 'blank-disks')
    this.#log = options.log
    this.#now = options.now ?? Date.now
    this.#readySizeGb = options.readySizeGb ?? 0
    this.#readyCount = options.readySizeGb ? (options.readyCount ?? 2) : 0
  }

  /** Takes over what a former run kept ready, removes what it left half made. */
  async open(): Promise<void> {
    await makePassable(this.#sandboxesDir)
    await makePassable(this.#blanksDir)
    const wanted = `ready-${this.#readySizeGb}gb-`
    for (const name of await readdir(this.#blanksDir)) {
      const disk = join(this.#blanksDir, name)
      if (name.startsWith(wanted) && this.#ready.length < this.#readyCount && (await mountsAgain(disk))) this.#ready.push(disk)
      else await removeDisk(disk)
    }
    this.#startRefill()
  }

  support(): Promise<true | string> {
    if (!this.#support || this.#now() > this.#supportUntil) {
      this.#supportUntil = Number.POSITIVE_INFINITY
      this.#support = this.#probe()
    }
    return this.#support
  }

  async #probe(): Promise<true | string> {
    try {
      if (process.getuid?.() !== 0) throw new Error('it needs root: run the operator as root')
      await removeDisk(await this.#makeBlank(1 / 16))
      return true
    } catch (error) {
      this.#supportUntil = this.#now() + refusalKeptMs
      return `no loop-mounted ext4 file system can be made here (that takes e2fsprogs, mount and loop devices): ${String(error)}`
    }
  }

  /** A mounted blank disk, visible as ready only when it is whole. */
  async #makeBlank(sizeGb: number): Promise<string> {
    const mark = randomBytes(6).toString('hex')
    const making = join(this.#blanksDir, `making-${mark}`)
    const ready = join(this.#blanksDir, `ready-${sizeGb}gb-${mark}`)
    await makePassable(making)
    try {
      await makeImage(imageOf(making), sizeGb)
      await mountDisk(making)
      await rename(making, ready)
      return ready
    } catch (error) {
      await removeDisk(making)
      throw error
    }
  }

  async create(id: string, sizeGb: number, owner: DiskOwner): Promise<string> {
    const disk = this.#diskOf(id)
    if (existsSync(disk)) return this.attach(id)
    await makePassable(join(this.#sandboxesDir, id))
    if ((await this.support()) !== true) {
      // Claimed by the same rename as a real disk, so that a disk that exists is always whole.
      const plain = join(this.#blanksDir, `making-${randomBytes(6).toString('hex')}`)
      await makePassable(rootOf(plain))
      await chmod(plain, 0o711)
      await furnish(plain, owner)
      await rename(plain, disk)
      return rootOf(disk)
    }
    const blank = (sizeGb === this.#readySizeGb && this.#ready.shift()) || (await this.#makeBlank(sizeGb))
    this.#refillSoon()
    await furnish(blank, owner)
    await rename(blank, disk)
    return rootOf(disk)
  }

  async createFrom(id: string, { image, sizeGb }: DiskSeed, owner: DiskOwner): Promise<string> {
    const disk = this.#diskOf(id)
    if (existsSync(disk)) return this.attach(id)
    await makePassable(join(this.#sandboxesDir, id))
    const making = join(this.#blanksDir, `making-${randomBytes(6).toString('hex')}`)
    await makePassable(making)
    try {
      await rename(image, imageOf(making))
      await growImage(imageOf(making), sizeGb)
      await mountDisk(making)
      await giveDisk(rootOf(making), owner)
      await rename(making, disk)
      return rootOf(disk)
    } catch (error) {
      await removeDisk(making)
      throw error
    }
  }

  async bytes(id: string): Promise<number | undefined> {
    const image = imageOf(this.#diskOf(id))
    return existsSync(image) ? (await stat(image)).blocks * 512 : undefined
  }

  async copy(id: string, to: string, signal: AbortSignal): Promise<void> {
    const disk = this.#diskOf(id)
    const [image, mountPoint] = [imageOf(disk), rootOf(disk)]
    if (await isMounted(mountPoint)) await copyMounted({ image, mountPoint }, to, signal)
    else await copySparse(image, to, signal)
  }

  async thaw(id: string): Promise<void> {
    const root = rootOf(this.#diskOf(id))
    if (await isMounted(root)) await thawFileSystem(root)
  }

  async attach(id: string): Promise<string> {
    const disk = this.#diskOf(id)
    if (existsSync(imageOf(disk))) await mountDisk(disk)
    await access(join(rootOf(disk), 'home'))
    return rootOf(disk)
  }

  async detach(id: string): Promise<void> {
    await unmountBelow(this.#diskOf(id))
  }

  async remove(id: string): Promise<void> {
    await removeDisk(this.#diskOf(id))
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#refillTimer)
    await this.#refill
    for (const disk of this.#ready.splice(0)) await removeDisk(disk)
  }

  #diskOf(id: string): string {
    if (!/^[\w.-]{1,128}$/.test(id) || id.startsWith('.')) throw new Error(`"${id}" cannot name a disk`)
    return join(this.#sandboxesDir, id, 'disk')
  }

  #refillSoon(): void {
    if (this.#closed || this.#refillTimer) return
    this.#refillTimer = setTimeout(() => this.#startRefill(), refillDelayMs)
    this.#refillTimer.unref()
  }

  #startRefill(): void {
    this.#refillTimer = undefined
    this.#refill ??= this.#fill().finally(() => {
      this.#refill = undefined
    })
  }

  async #fill(): Promise<void> {
    try {
      if (this.#readyCount === 0 || (await this.support()) !== true) return
      while (!this.#closed && this.#ready.length < this.#readyCount) this.#ready.push(await this.#makeBlank(this.#readySizeGb))
    } catch (error) {
      // A creation makes its own disk then, and tells its caller why when that fails too.
      this.#log?.warn({ err: error }, 'a blank disk could not be kept ready')
    }
  }
}

async function mountsAgain(disk: string): Promise<boolean> {
  try {
    await mountDisk(disk)
    return true
  } catch {
    return false
  }
}

export async function openWorkspaceDisks(options: WorkspaceDiskOptions): Promise<WorkspaceDisks> {
  await mkdir(options.stateDir, { recursive: true })
  // The kernel's mount table has real paths only.
  const disks = new LoopDisks(await realpath(options.stateDir), options)
  await disks.open()
  return disks
}
