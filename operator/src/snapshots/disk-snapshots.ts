// Copies of sandboxes' disks below the state folder: `<id>.snapshot` for each snapshot, and `work/` for what is under way.
import { randomBytes } from 'node:crypto'
import { createWriteStream, existsSync } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib'
import { Failure } from '@atoll/protocol'
import { archiveFile, copySparse, restoreFile } from '../host/disk-copy.ts'
import type { WorkspaceDisks } from '../host/workspace-disk.ts'
import type { Seal } from '../sandboxes/secrets.ts'
import { type SnapshotFiles, type SnapshotRecord, snapshotContext } from '../sandboxes/snapshot-store.ts'
import { checkFile, type FileKey, opened, sealed } from './sealed-file.ts'

const suffix = '.snapshot'
const imageName = 'disk.img'
/** Level 1 packs about as fast as disks are read. */
const compression = { params: { [constants.ZSTD_c_compressionLevel]: 1 } }

export interface DiskSnapshotsOptions {
  readonly stateDir: string
  readonly disks: Pick<WorkspaceDisks, 'bytes' | 'copy' | 'thaw'>
  readonly seal: Seal
}

/** It is on the disk, also after a power cut. */
async function settle(target: string): Promise<void> {
  const file = await open(target, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

const isFull = (error: unknown): boolean =>
  error instanceof Error &&
  (('code' in error && error.code === 'ENOSPC') || /No space left on device/.test(error.message) || isFull(error.cause))

/** What a full disk does is told from a defect. */
async function withRoom<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (!isFull(error)) throw error
    const message =
      'The disk of this operator became full while the copy was made; nothing of it was kept. Delete a snapshot or a sandbox, or try again later.'
    throw new Failure('capacity.exhausted', message, { cause: error, status: 507 })
  }
}

export class DiskSnapshots implements SnapshotFiles {
  readonly #directory: string
  readonly #disks: DiskSnapshotsOptions['disks']
  readonly #seal: Seal

  constructor({ stateDir, disks, seal }: DiskSnapshotsOptions) {
    this.#directory = path.join(stateDir, 'snapshots')
    this.#disks = disks
    this.#seal = seal
  }

  newKey(id: string): string {
    return this.#seal.seal(randomBytes(32).toString('base64url'), snapshotContext(id))
  }

  async diskBytes(sandboxId: string): Promise<number> {
    const bytes = await this.#disks.bytes(sandboxId)
    if (bytes !== undefined) return bytes
    throw new Failure(
      'runtime.unsupported',
      `The disk of ${sandboxId} is a plain folder, of which no copy can be made. Run the operator as root.`,
    )
  }

  copy(sandboxId: string, name: string, signal: AbortSignal): Promise<void> {
    return this.#making(name, (image) => this.#disks.copy(sandboxId, image, signal))
  }

  async pack(snapshot: SnapshotRecord, signal: AbortSignal, progress: (share: number) => void): Promise<number> {
    const [directory, file] = [this.#work(snapshot.id), this.#file(snapshot.id)]
    const packing = path.join(directory, 'packing')
    const total = (await stat(path.join(directory, imageName))).blocks * 512 || 1
    let done = 0
    const counted = async function* (source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
      for await (const bytes of source) {
        done += bytes.length
        progress(Math.min(done / total, 1))
        yield bytes
      }
    }
    const key = this.#keyOf(snapshot)
    return withRoom(async () => {
      await archiveFile(
        { directory, name: imageName },
        (source) =>
          pipeline(
            source,
            counted,
            createZstdCompress(compression),
            (packed) => sealed(packed, key),
            createWriteStream(packing, { mode: 0o600 }),
            {
              signal,
            },
          ),
        signal,
      )
      await settle(packing)
      await rename(packing, file)
      await settle(this.#directory)
      return (await stat(file)).size
    })
  }

  check(id: string): Promise<void> {
    return checkFile(this.#file(id), id)
  }

  async unpack(snapshot: SnapshotRecord, sandboxId: string, signal: AbortSignal): Promise<string> {
    const key = this.#keyOf(snapshot)
    await this.#making(sandboxId, async (image) => {
      const content = createZstdDecompress()
      const reading = pipeline(opened(this.#file(snapshot.id), key), content, { signal })
      const restoring = restoreFile({ directory: path.dirname(image), name: imageName }, content, signal)
      const results = await Promise.allSettled([reading, restoring])
      const reasons = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
      // What is wrong with the file, or a full disk, tells more than what became of the other end.
      if (reasons.length > 0) throw reasons.find((reason) => reason instanceof Failure) ?? reasons.find(isFull) ?? reasons[0]
    })
    return this.#image(sandboxId)
  }

  async duplicate(name: string, sandboxId: string, signal: AbortSignal): Promise<string> {
    await this.#making(sandboxId, (image) => copySparse(this.#image(name), image, signal))
    return this.#image(sandboxId)
  }

  async dropCopy(name: string): Promise<void> {
    await rm(this.#work(name), { recursive: true, force: true })
  }

  async remove(id: string): Promise<void> {
    await this.dropCopy(id)
    await rm(this.#file(id), { force: true })
  }

  async clean(known: ReadonlySet<string>): Promise<string[]> {
    if (!existsSync(this.#directory)) return []
    const names = (await readdir(this.#directory)).filter((name) => !(name.endsWith(suffix) && known.has(name.slice(0, -suffix.length))))
    for (const name of names) await rm(path.join(this.#directory, name), { recursive: true, force: true })
    return names.filter((name) => name !== 'work')
  }

  thaw(sandboxId: string): Promise<void> {
    return this.#disks.thaw(sandboxId)
  }

  /** Makes an image in a folder of its own, or leaves nothing. */
  async #making(name: string, make: (image: string) => Promise<void>): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
    await mkdir(this.#work(name), { recursive: true, mode: 0o700 })
    try {
      await withRoom(() => make(this.#image(name)))
    } catch (error) {
      await this.dropCopy(name)
      throw error
    }
  }

  #keyOf({ id, keySealed }: SnapshotRecord): FileKey {
    return { id, key: Buffer.from(this.#seal.open(keySealed, snapshotContext(id)), 'base64url') }
  }

  #file(id: string): string {
    return path.join(this.#directory, `${id}${suffix}`)
  }

  #work(name: string): string {
    return path.join(this.#directory, 'work', name)
  }

  #image(name: string): string {
    return path.join(this.#work(name), imageName)
  }
}
