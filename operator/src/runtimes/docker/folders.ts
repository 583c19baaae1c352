// What a docker sandbox has on the host beside its disk.
import { chown, mkdir, readdir, realpath, rm, rmdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { RuntimeName } from '@atoll/protocol'
import { sandboxUser, sidecarPaths } from '@atoll/protocol/sidecar'
import { clearSidecarState } from '../../host/sidecar-state.ts'
import { volumeFolder } from './container.ts'

/** Marks a sandbox folder as one of this runtime, whether or not the engine still has its container. */
const markName: RuntimeName = 'docker'

const hasCode = (error: unknown, codes: readonly string[]): boolean =>
  error instanceof Error && 'code' in error && codes.includes(String(error.code))

export async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (hasCode(error, ['ENOENT', 'ENOTDIR'])) return false
    throw error
  }
}

export class Folders {
  readonly #runDir: string
  readonly #sandboxesDir: string

  constructor(runDir: string, stateDir: string) {
    this.#runDir = runDir
    this.#sandboxesDir = join(stateDir, 'sandboxes')
  }

  channel(id: string): string {
    return join(this.#runDir, id)
  }

  socket(id: string): string {
    return join(this.channel(id), sidecarPaths.socketName)
  }

  state(id: string): string {
    return join(this.#sandboxesDir, id, 'sidecar')
  }

  #mark(id: string): string {
    return join(this.#sandboxesDir, id, markName)
  }

  /** Begins anew with a dead socket and the logs of processes that nobody remembers out of the way. */
  async renew(id: string): Promise<void> {
    await this.dropChannel(id)
    await clearSidecarState(this.state(id))
    await this.prepare(id)
  }

  /** Safe to repeat. The run directory is empty after a reboot. */
  async prepare(id: string): Promise<void> {
    await Promise.all([
      mkdir(this.channel(id), { recursive: true, mode: 0o700 }),
      mkdir(this.state(id), { recursive: true, mode: 0o700 }).then(() => writeFile(this.#mark(id), '')),
    ])
  }

  /** Directories on the disk for the volumes that the image asks for. */
  async prepareVolumes(disk: string, volumes: readonly string[]): Promise<void> {
    for (const index of volumes.keys()) {
      const folder = volumeFolder(await realpath(disk), index)
      await mkdir(folder, { recursive: true, mode: 0o755 })
      await chown(folder, sandboxUser.uid, sandboxUser.gid)
    }
  }

  /** The socket is gone with its sidecar; a stale one would look alive. */
  async dropChannel(id: string): Promise<void> {
    await rm(this.channel(id), { recursive: true, force: true })
  }

  /** Everything but the disk, which must be gone by then. */
  async remove(id: string): Promise<void> {
    await this.dropChannel(id)
    await rm(this.state(id), { recursive: true, force: true })
    await rm(this.#mark(id), { force: true })
    try {
      await rmdir(join(this.#sandboxesDir, id))
    } catch (error) {
      if (!hasCode(error, ['ENOENT', 'ENOTEMPTY'])) throw error
    }
  }

  has(id: string): Promise<boolean> {
    return isThere(this.#mark(id))
  }

  /** Sandboxes of this runtime that have a disk, also those whose container somebody took away. */
  async kept(): Promise<string[]> {
    const names = (await isThere(this.#sandboxesDir)) ? await readdir(this.#sandboxesDir) : []
    const marked = await Promise.all(names.map((id) => this.has(id)))
    return names.filter((_, index) => marked[index])
  }
}
