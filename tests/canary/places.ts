// Reads every place that a secret could have come to: files, logs, the engine, processes, and what is served.
import { execFile, spawn } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import type { Needles } from './needles.ts'

const run = promisify(execFile)

/** Where a value was found. */
export interface Finding {
  readonly name: string
  readonly kind: string
  readonly where: string
}

const chunkBytes = 4 << 20
const overlapBytes = 1024

export class Search {
  readonly findings: Finding[] = []
  readonly #needles: Needles
  bytes = 0

  constructor(needles: Needles) {
    this.#needles = needles
  }

  text(kind: string, where: string, text: string | Uint8Array): void {
    const bytes = typeof text === 'string' ? Buffer.from(text) : text
    this.bytes += bytes.length
    for (const name of this.#needles.find(bytes)) this.#add({ name, kind, where })
  }

  #add(finding: Finding): void {
    const isKnown = this.findings.some(({ name, kind, where }) => name === finding.name && kind === finding.kind && where === finding.where)
    if (!isKnown) this.findings.push(finding)
  }

  /** @param from where it begins to be of interest */
  async file(kind: string, file: string, from = 0): Promise<void> {
    // A device may be mounted over what the folder lists as a file.
    if (!statSync(file, { throwIfNoEntry: false })?.isFile()) return
    const handle = await open(file, 'r').catch(() => undefined) // It was removed since it was listed.
    if (!handle) return
    const { size, blocks } = await handle.stat()
    // A disk image is mostly holes, which would take long to read.
    if (blocks * 512 < size / 2) {
      await handle.close()
      const archiver = spawn('tar', ['--sparse', '--hole-detection=seek', '-cf', '-', file], { stdio: ['ignore', 'pipe', 'ignore'] })
      return this.#stream(kind, file, archiver.stdout)
    }
    await this.#stream(kind, file, handle.createReadStream({ start: from, highWaterMark: chunkBytes }))
  }

  /** What a container has written beside its image. */
  async #written(container: string): Promise<void> {
    const layer = (await docker('inspect', '--format', '{{.GraphDriver.Data.UpperDir}}', container)).toString().trim()
    if (path.isAbsolute(layer)) await this.folder('container files', layer)
    else this.text('container files', container, await docker('export', container))
  }

  async #stream(kind: string, where: string, chunks: AsyncIterable<Buffer>): Promise<void> {
    let tail = Buffer.alloc(0)
    for await (const chunk of chunks) {
      const bytes = Buffer.concat([tail, chunk])
      this.text(kind, where, bytes)
      tail = Buffer.from(bytes.subarray(-overlapBytes))
    }
  }

  /** Every file below a folder; links are not followed. */
  async folder(kind: string, folder: string, mostBytes = Number.POSITIVE_INFINITY): Promise<void> {
    for (const entry of entriesOf(folder)) {
      const file = path.join(folder, entry.name)
      if (entry.isDirectory()) await this.folder(kind, file, mostBytes)
      else if (entry.isFile() && sizeOf(file) <= mostBytes) await this.file(kind, file)
      this.text(kind, `name of ${file}`, entry.name)
    }
  }

  /** Environment and command line of every process of the machine. */
  processes(): void {
    for (const pid of processIds()) {
      for (const what of ['environ', 'cmdline'] as const) this.text(what, pid, procFile(pid, what))
    }
  }

  /** What a sandbox sees as its files, but for the programs, which are there from before. */
  async root(pid: string): Promise<void> {
    const root = `/proc/${pid}/root`
    const skipped = new Set(['proc', 'sys', 'usr', 'bin', 'sbin', 'boot', 'lib', 'lib32', 'lib64', 'libx32', 'opt'])
    for (const { name } of entriesOf(root)) if (!skipped.has(name)) await this.folder('root', path.join(root, name), 64 << 20)
  }

  /** What the engine tells of all it has, with the logs and files of containers and what is newer than `from` in its own log. */
  async engine({ containers, since, log }: { containers: readonly string[]; since: number; log: EngineLog | undefined }): Promise<void> {
    for (const [kind, list, inspect] of [
      ['container', ['ps', '-aq'], ['inspect']],
      ['image', ['images', '-q', '--no-trunc'], ['image', 'inspect']],
      ['volume', ['volume', 'ls', '-q'], ['volume', 'inspect']],
      ['network', ['network', 'ls', '-q'], ['network', 'inspect']],
    ] as const) {
      const ids = [...new Set((await docker(...list)).toString().split('\n').filter(Boolean))]
      // What is of others may be gone since it was listed; of the rest it tells all the same.
      if (ids.length > 0) this.text('inspect', kind, await docker(...inspect, ...ids).catch(({ stdout }) => stdout))
    }
    for (const container of containers) {
      this.text('container log', container, await docker('logs', container))
      await this.#written(container)
    }
    const until = Math.ceil(Date.now() / 1000)
    this.text('engine events', 'events', await docker('events', '--since', String(since), '--until', String(until)))
    if (log) await this.file('engine log', log.file, log.from)
  }
}

/** Standard output and error together: a container's log has both. */
async function docker(...args: readonly string[]): Promise<Buffer> {
  const options = { maxBuffer: 1 << 30, encoding: 'buffer' as const, timeout: 30_000 }
  const { stdout, stderr } = await run('docker', [...args], options)
  return Buffer.concat([stdout, stderr])
}

export interface EngineLog {
  readonly file: string
  readonly from: number
}

/** Where the engine writes its log now, if that is a file. */
export function engineLog(): EngineLog | undefined {
  const pid = processIds().find((id) => procFile(id, 'comm').toString().trim() === 'dockerd')
  if (pid === undefined) return undefined
  const file = readlinkSync(`/proc/${pid}/fd/1`)
  return file.startsWith('/') && !file.startsWith('/dev/') ? { file, from: sizeOf(file) } : undefined
}

const entriesOf = (folder: string) => {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch {
    return [] // It was removed since it was listed, or is a file system of the kernel.
  }
}

const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0

const processIds = (): string[] => readdirSync('/proc').filter((name) => /^\d+$/.test(name))

function procFile(pid: string, name: string): Buffer {
  try {
    return readFileSync(`/proc/${pid}/${name}`)
  } catch {
    return Buffer.alloc(0) // It has ended.
  }
}

/** The process of a sandbox that was started with this mark in its command line, as the host knows it. */
export function processWith(mark: string): string {
  const found = processIds().find((pid) => {
    const [program = '', ...args] = procFile(pid, 'cmdline').toString().split('\0')
    return path.basename(program) === 'sleep' && args.includes(mark)
  })
  if (found === undefined) throw new Error(`no process was started with ${mark}`)
  return found
}

export const namespaceOf = (pid: string): string => {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`)
  } catch {
    return ''
  }
}
