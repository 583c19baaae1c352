// File contents, streamed both ways and never held whole.
import { constants, type Stats } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Failure, type FileEntry } from '@atoll/protocol'
import type { Call } from '../router.ts'
import { describeEntry, draftBeside } from './entries.ts'
import { errnoOf } from './file-failure.ts'
import type { Paths } from './paths.ts'
import { parseRange } from './range.ts'

const chunkBytes = 256 * 1024

/** Opened without waiting, because a pipe that nobody writes to would block a thread for ever. */
async function openRegular(file: string, shown: string): Promise<{ handle: FileHandle; stats: Stats }> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
  const stats = await handle.stat()
  if (stats.isFile()) return { handle, stats }
  await handle.close()
  if (stats.isDirectory()) throw new Failure('file.is_a_directory', `${shown} is a directory.`)
  throw new Failure('file.invalid_path', `${shown} is not a regular file.`)
}

export async function download(paths: Paths, { query, request, response }: Call): Promise<void> {
  const { path: shown, real } = await paths.target(query.get('path') ?? '')
  const { handle, stats } = await openRegular(real, shown)
  try {
    response.setHeader('accept-ranges', 'bytes')
    response.setHeader('content-range', `bytes */${stats.size}`)
    const range = parseRange(request.headers.range, stats.size)
    const { start, end } = range ?? { start: 0, end: stats.size - 1 }
    if (range) response.setHeader('content-range', `bytes ${start}-${end}/${stats.size}`)
    else response.removeHeader('content-range')
    const length = end - start + 1
    response.writeHead(range ? 206 : 200, {
      'content-type': 'application/octet-stream',
      'content-length': length,
      'last-modified': stats.mtime.toUTCString(),
      etag: `"${stats.ino.toString(36)}-${stats.size.toString(36)}-${stats.mtimeMs.toString(36)}"`,
    })
    if (length === 0) return void response.end()
    const source = handle.createReadStream({ start, end, highWaterMark: chunkBytes, autoClose: false })
    await pipeline(source, response, { end: false })
    // A file that shrank meanwhile must not look complete.
    if (source.bytesRead < length) response.destroy()
    else response.end()
  } catch (error) {
    // Who leaves in the middle of a download is told nothing.
    if (errnoOf(error) !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
  } finally {
    await handle.close()
  }
}

/** The mode that a replaced file had, or an ordinary one. */
async function modeFor(file: string, asked: string | null): Promise<number> {
  if (asked !== null) return Number.parseInt(asked, 8)
  try {
    const found = await stat(file)
    if (found.isDirectory()) throw new Failure('file.is_a_directory', `${file} is a directory.`)
    return found.mode & 0o777
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0o644
    throw error
  }
}

async function fill(draft: string, request: IncomingMessage, mode: number): Promise<void> {
  const handle = await open(draft, 'wx', 0o600)
  try {
    // Written chunk by chunk: a stream would take the request down with it when the disk is full, and the answer with it.
    for await (const chunk of request.iterator({ destroyOnReturn: false })) await handle.writeFile(chunk)
    await handle.chmod(mode)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** The file appears complete or not at all. */
export async function upload(paths: Paths, { query, request }: Call): Promise<FileEntry> {
  const target = await paths.target(query.get('path') ?? '')
  const draft = draftBeside(target.real)
  try {
    const mode = await modeFor(target.real, query.get('mode'))
    await mkdir(path.dirname(target.real), { recursive: true })
    await fill(draft, request, mode)
    await rename(draft, target.real)
  } catch (error) {
    await rm(draft, { force: true })
    // The rest of a refused upload is read and thrown away, so that its sender comes to read the answer.
    request.resume()
    throw error
  }
  return describeEntry({ path: target.path, real: target.real })
}
