// Directories and what is in them: list, stat, mkdir, move, remove.
import type { Stats } from 'node:fs'
import { cp, link, lstat, mkdir, open, readdir, readlink, rename, rm, rmdir, unlink } from 'node:fs/promises'
import path from 'node:path'
import { Failure, type FileEntry } from '@atoll/protocol'
import { randomId } from '../random-id.ts'
import { errnoOf } from './file-failure.ts'
import type { Located, Paths } from './paths.ts'

const maxEntries = 100_000
const statsAtOnce = 64

/** Names of files that are being written and not there yet. */
const draftPrefix = '.atoll-draft-'

export const isDraft = (name: string): boolean => name.startsWith(draftPrefix)

/** A name beside the target, so that it can take the target's place in one step. */
export const draftBeside = (target: string): string => path.join(path.dirname(target), `${draftPrefix}${randomId()}`)

function typeOf(stats: Stats): FileEntry['type'] {
  if (stats.isFile()) return 'file'
  if (stats.isDirectory()) return 'directory'
  return stats.isSymbolicLink() ? 'symlink' : 'other'
}

export async function describeEntry({ path: shown, real }: Located): Promise<FileEntry> {
  const stats = await lstat(real)
  const type = typeOf(stats)
  return {
    path: shown,
    name: path.basename(shown),
    type,
    size: stats.size,
    mode: (stats.mode & 0o7777).toString(8).padStart(3, '0'),
    modified_at: stats.mtimeMs,
    ...(type === 'symlink' && { target: await readlink(real) }),
  }
}

/** Undefined for what vanished since it was listed. */
async function describeIfThere(located: Located): Promise<FileEntry | undefined> {
  try {
    return await describeEntry(located)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

export async function list(paths: Paths, given: string): Promise<{ path: string; entries: FileEntry[] }> {
  const directory = await paths.target(given)
  const names = (await readdir(directory.real)).filter((name) => !isDraft(name))
  if (names.length > maxEntries) {
    throw new Failure('request.too_large', `${directory.path} has ${names.length} entries, more than the ${maxEntries} that a list takes.`)
  }
  names.sort()
  const entries: FileEntry[] = []
  for (let start = 0; start < names.length; start += statsAtOnce) {
    const some = names.slice(start, start + statsAtOnce)
    const located = some.map((name) => ({ path: path.join(directory.path, name), real: path.join(directory.real, name) }))
    const described = await Promise.all(located.map(describeIfThere))
    entries.push(...described.filter((entry) => entry !== undefined))
  }
  return { path: directory.path, entries }
}

export async function makeDirectory(paths: Paths, given: string): Promise<FileEntry> {
  const directory = await paths.target(given)
  await mkdir(directory.real, { recursive: true })
  return describeEntry(directory)
}

/** Takes a name only when nobody has it. A directory replaces an empty one in one step, so an empty one holds the place for it. */
async function renameToFree(from: string, to: string, isDirectory: boolean): Promise<void> {
  const release = isDirectory ? rmdir : unlink
  if (isDirectory) await mkdir(to)
  else await (await open(to, 'wx')).close()
  try {
    await rename(from, to)
  } catch (error) {
    await release(to)
    throw error
  }
}

async function renameWithoutReplacing(from: string, to: string): Promise<void> {
  if ((await lstat(from)).isDirectory()) return renameToFree(from, to, true)
  try {
    await link(from, to)
  } catch (error) {
    // Not every file system has links, and the kernel may forbid them to files of other users.
    const code = errnoOf(error)
    if (code !== 'EPERM' && code !== 'EMLINK' && code !== 'ENOTSUP') throw error
    return renameToFree(from, to, false)
  }
  await unlink(from)
}

/** To another file system: the copy appears whole before the original goes. */
async function moveAcross(from: string, to: string, place: (from: string, to: string) => Promise<void>): Promise<void> {
  const draft = draftBeside(to)
  try {
    await cp(from, draft, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    await place(draft, to)
  } catch (error) {
    await rm(draft, { recursive: true, force: true })
    throw error
  }
  await rm(from, { recursive: true, force: true })
}

export interface Move {
  readonly from: string
  readonly to: string
  readonly overwrite?: boolean
}

export async function move(paths: Paths, request: Move): Promise<FileEntry> {
  const from = await paths.removable(request.from)
  const to = await paths.removable(request.to)
  const place = request.overwrite ? rename : renameWithoutReplacing
  try {
    await place(from.real, to.real)
  } catch (error) {
    if (errnoOf(error) !== 'EXDEV') throw error
    await moveAcross(from.real, to.real, place)
  }
  return describeEntry(to)
}

export async function remove(paths: Paths, given: string, isRecursive: boolean): Promise<{ deleted: boolean }> {
  const { path: shown, real } = await paths.removable(given)
  try {
    const isDirectory = (await lstat(real)).isDirectory()
    if (isDirectory && !isRecursive) throw new Failure('file.is_a_directory', `${shown} is a directory; remove it with recursive=true.`)
    await (isDirectory ? rm(real, { recursive: true }) : unlink(real))
    return { deleted: true }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return { deleted: false }
    throw error
  }
}
