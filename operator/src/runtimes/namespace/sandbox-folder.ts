// A sandbox's folder on the host: the record by which a later run of the operator knows it, and its places.
import { existsSync, readFileSync, statSync, truncateSync } from 'node:fs'
import { chmod, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, runtimeNames } from '@atoll/protocol'
import type { Plan } from '../../sandboxes/runtime.ts'
import type { ProcessIdentity } from './process-identity.ts'

export interface SandboxRecord {
  readonly runtime: 'namespace'
  readonly plan: Plan
  /** What was really started: `host` or the image's name. */
  readonly image: string
  /** First host user id of its range. */
  readonly base: number
  /** bubblewrap on the host's side. */
  readonly monitor?: ProcessIdentity
  /** The first process of its pid namespace: when this one dies, all die. */
  readonly first?: ProcessIdentity
}

const recordName = 'runtime.json'
const logLimitBytes = 1024 * 1024
const maxSocketPathBytes = 107

const isId = (name: string): boolean => /^[A-Za-z0-9][\w.-]{0,63}$/.test(name)

/** An id becomes a directory's name. */
export function assertId(id: string): void {
  if (!isId(id)) throw new Failure('request.invalid', `"${id.slice(0, 80)}" cannot be the id of a sandbox.`)
}

export class SandboxFolders {
  readonly directory: string
  readonly #runDir: string

  constructor(stateDir: string, runDir: string) {
    this.directory = join(stateDir, 'sandboxes')
    this.#runDir = runDir
  }

  of(id: string): string {
    assertId(id)
    return join(this.directory, id)
  }

  channelOf(id: string): string {
    assertId(id)
    return join(this.#runDir, id)
  }

  /** @throws Failure `config.invalid` when the kernel would cut it off */
  socketOf(id: string): string {
    const path = join(this.channelOf(id), 'sidecar.sock')
    if (Buffer.byteLength(path) <= maxSocketPathBytes) return path
    throw new Failure(
      'config.invalid',
      `The guest channel's path ${path} is longer than ${maxSocketPathBytes} bytes. Choose a shorter run folder.`,
    )
  }

  logOf(id: string): string {
    return join(this.of(id), 'sidecar.log')
  }

  /** Undefined when there is no such sandbox of this runtime, or none whose record a power cut has left. */
  read(id: string): SandboxRecord | undefined {
    const path = join(this.of(id), recordName)
    if (!existsSync(path)) return undefined
    const text = readFileSync(path, 'utf8')
    if (text === '') return undefined
    const record: SandboxRecord = JSON.parse(text)
    return record.runtime === 'namespace' ? record : undefined
  }

  /** `lasting`: on the disk when it returns, also after a power cut. Without its record a sandbox's files belong to nobody. */
  async write(record: SandboxRecord, durability: 'lasting' | 'quick'): Promise<void> {
    const folder = this.of(record.plan.id)
    await mkdir(folder, { recursive: true })
    await chmod(folder, 0o711)
    const path = join(folder, recordName)
    const file = await open(`${path}.new`, 'w', 0o600)
    try {
      await file.writeFile(JSON.stringify(record))
      if (durability === 'lasting') await file.datasync()
    } finally {
      await file.close()
    }
    await rename(`${path}.new`, path)
  }

  async ids(): Promise<string[]> {
    if (!existsSync(this.directory)) return []
    const names = await readdir(this.directory)
    return names.filter((name) => this.read(name) !== undefined)
  }

  /** Folders that no runtime knows: a power cut, or the end of the operator, has left them. */
  async unmarked(): Promise<string[]> {
    if (!existsSync(this.directory)) return []
    // Other runtimes mark theirs with their names.
    const isMarked = (name: string): boolean => runtimeNames.some((runtime) => existsSync(join(this.directory, name, runtime)))
    const names = await readdir(this.directory)
    return names.filter((name) => isId(name) && this.read(name) === undefined && !isMarked(name))
  }

  /** The last lines of what the sidecar and bubblewrap said. */
  logTail(id: string): string {
    try {
      return readFileSync(this.logOf(id), 'utf8').trim().slice(-1500)
    } catch {
      return '' // Nothing was said.
    }
  }

  /** Its writers append, so that it may be cut at any time. */
  capLog(id: string): void {
    const size = statSync(this.logOf(id), { throwIfNoEntry: false })?.size ?? 0
    if (size > logLimitBytes) truncateSync(this.logOf(id), 0)
  }

  /** The record goes last: by it another removal finds what one that was cut off has left. */
  async remove(id: string): Promise<void> {
    const folder = this.of(id)
    await rm(this.channelOf(id), { recursive: true, force: true })
    const others = existsSync(folder) ? (await readdir(folder)).filter((name) => name !== recordName) : []
    await Promise.all(others.map((name) => rm(join(folder, name), { recursive: true, force: true })))
    await rm(folder, { recursive: true, force: true })
  }
}
