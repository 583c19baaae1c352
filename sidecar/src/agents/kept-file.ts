// Files in which conversations are kept, as a program reads them that trusts nothing of what it finds there.
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs'
import { Failure } from '@atoll/protocol'
import { errnoOf } from '../files/file-failure.ts'

/** Whoever may enter the folder around all of them may read. Without the sidecar that is nobody in the sandbox. */
export const keptMode = 0o644
export const keptFolderMode = 0o755

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants

export interface KeptFile {
  readonly maxBytes: number
  /** One that is not there is one with nothing in it. */
  readonly orEmpty?: boolean
}

/** Opens a file of that size at most: no link, and nothing that would be waited for. @throws Failure `agent.history_unreadable`, and what the file system throws */
export function openKept(file: string, { maxBytes, orEmpty }: KeptFile): number {
  let fd: number
  try {
    fd = openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  } catch (error) {
    if (!orEmpty || errnoOf(error) !== 'ENOENT') throw error
    return openSync('/dev/null', O_RDONLY)
  }
  const stats = fstatSync(fd)
  if (stats.isFile() && stats.size <= maxBytes) return fd
  closeSync(fd)
  const why = stats.isFile() ? `has ${stats.size} bytes` : 'is no regular file'
  throw new Failure('agent.history_unreadable', `A file of the conversation cannot be read: ${file} ${why}.`)
}

/** @throws as `openKept` */
export function readKept(file: string, maxBytes: number): string {
  const fd = openKept(file, { maxBytes })
  try {
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}
