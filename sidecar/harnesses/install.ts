// Puts harnesses into a folder that sandboxes can have read-only: `<folder>/<id>/` with the files, `<folder>/bin/` with the commands.
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { placeProgram, placeScript } from './commands.ts'
import { placeProof } from './proof.ts'
import { fetchTarball, unpack } from './tarball.ts'
import { type Part, partsFor, platform } from './versions.ts'

export interface InstallOptions {
  readonly ids: readonly string[]
  readonly folder: string
  /** Where tarballs are kept; nowhere when absent. */
  readonly downloads?: string | undefined
  readonly onProgress: (line: string) => void
  /** Ends it early, with nothing half-made left. */
  readonly signal?: AbortSignal | undefined
}

export interface Installed {
  readonly id: string
  readonly bytes: number
  readonly wasThere: boolean
}

const stampName = '.installed.json'
const draftPattern = /^\.draft-(?<pid>\d+)-/

/** What a part was made from; a part with another stamp is made anew. */
const stampOf = (part: Part): string => JSON.stringify(part)

export const claimsFile = (folder: string): string => path.join(folder, 'claims.json')

async function bytesOf(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true })
  const sizes = await Promise.all(names.map((name) => lstat(path.join(folder, name))))
  return sizes.reduce((sum, entry) => sum + (entry.isFile() ? entry.size : 0), 0)
}

/** Every user may read and run, none may write. */
async function openToAll(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue
    const file = path.join(entry.parentPath, entry.name)
    const { mode } = await lstat(file)
    await chmod(file, entry.isDirectory() || mode & 0o100 ? 0o755 : 0o644)
  }
  await chmod(folder, 0o755)
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** What an installation left that was killed. */
async function removeStaleDrafts(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = draftPattern.exec(name)?.groups?.['pid']
    if (pid && (Number(pid) === process.pid || !isAlive(Number(pid)))) await rm(path.join(folder, name), { recursive: true, force: true })
  }
}

const placeCommand = ({ id, command, entry, needs }: Part, folder: string): Promise<void> =>
  needs.includes('node') ? placeScript(folder, command, `${id}/${entry}`) : placeProgram(folder, command, `${id}/${entry}`)

async function isInstalled(part: Part, folder: string): Promise<boolean> {
  const home = path.join(folder, part.id)
  const stamp = await readFile(path.join(home, stampName), 'utf8').catch(() => undefined)
  const entry = await lstat(path.join(home, part.entry)).catch(() => undefined)
  return stamp === stampOf(part) && entry !== undefined
}

async function build(part: Part, draft: string, downloads: string, signal: AbortSignal | undefined): Promise<void> {
  for (const one of part.packages) {
    signal?.throwIfAborted()
    const tarball = await fetchTarball(one, downloads, signal)
    await unpack(tarball, one, path.join(draft, one.into ?? ''))
  }
  const entry = await lstat(path.join(draft, part.entry)).catch(() => undefined)
  if (!entry?.isFile()) throw new Error(`The packages of ${part.id} have no file ${part.entry}.`)
  await openToAll(draft)
  await writeFile(path.join(draft, stampName), stampOf(part), { mode: 0o644 })
}

async function installPart(part: Part, { folder, downloads, onProgress, signal }: InstallOptions): Promise<Installed> {
  const home = path.join(folder, part.id)
  const wasThere = await isInstalled(part, folder)
  if (!wasThere) {
    onProgress(`${part.id}: fetching ${part.packages.map(({ name, version }) => `${name}@${version}`).join(', ')}`)
    const draft = await mkdtemp(path.join(folder, `.draft-${process.pid}-`))
    try {
      await build(part, path.join(draft, 'new'), downloads ?? path.join(draft, 'downloads'), signal)
      signal?.throwIfAborted()
      await rename(home, path.join(draft, 'old')).catch(ignoreMissing)
      await rename(path.join(draft, 'new'), home)
    } finally {
      await rm(draft, { recursive: true, force: true, maxRetries: 3 })
    }
  }
  await placeCommand(part, folder)
  return { id: part.id, bytes: await bytesOf(home), wasThere }
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}

/** Which harnesses the folder promises; the proof of it is `verify.ts`. */
export async function readClaims(folder: string): Promise<readonly string[]> {
  const text = await readFile(claimsFile(folder), 'utf8').catch(() => '[]')
  const claims: unknown = JSON.parse(text)
  return Array.isArray(claims) ? claims.map(String) : []
}

async function addClaims(folder: string, ids: readonly string[]): Promise<void> {
  const claims = [...new Set([...(await readClaims(folder)), ...ids])].sort()
  const draft = `${claimsFile(folder)}.${process.pid}`
  await writeFile(draft, `${JSON.stringify(claims)}\n`, { mode: 0o644 })
  await rename(draft, claimsFile(folder))
}

/** Safe to repeat: what is there already stays; what fails or is interrupted leaves the folder as it was. */
export async function install(options: InstallOptions): Promise<readonly Installed[]> {
  const here = `${process.platform}-${process.arch}`
  if (here !== platform) throw new Error(`Harnesses are pinned for ${platform} only, and this is ${here}.`)
  await mkdir(options.folder, { recursive: true, mode: 0o755 })
  await removeStaleDrafts(options.folder)
  const all: Installed[] = []
  for (const part of partsFor(options.ids)) {
    const installed = await installPart(part, options)
    const size = `${(installed.bytes / 1e6).toFixed(0)} MB`
    options.onProgress(`${part.id}: ${size}${installed.wasThere ? ', was there already' : ''}`)
    all.push(installed)
  }
  await placeProof(options.folder)
  await addClaims(options.folder, options.ids)
  return all
}
