// Files and folders of a sandbox onto this machine. What the sandbox says is not trusted: no name of its leads out of the target.
import { createWriteStream } from 'node:fs'
import { chmod, mkdir, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Failure, type FileEntry, type Files } from '@atoll/sdk'
import { note, writeTo } from '../print.ts'
import { type Copied, inParallel, standardStream } from './place.ts'

interface SandboxFile {
  readonly from: string
  readonly to: string
  readonly entry: FileEntry
}

interface Tree {
  readonly folders: string[]
  readonly files: SandboxFile[]
}

export async function download(files: Files, from: string, to: string): Promise<Copied> {
  if (to === standardStream) return toStandardOutput(files, from)
  const entry = await files.stat(from)
  const isInto =
    to.endsWith('/') ||
    (await stat(to).then(
      (found) => found.isDirectory(),
      () => false,
    ))
  const target = isInto ? path.join(to, nameOf(entry)) : to
  const tree: Tree = { folders: [], files: [] }
  await gather(files, { from, to: target, entry }, tree)
  for (const folder of tree.folders) await mkdir(folder, { recursive: true })
  await inParallel(tree.files, (file) => fetchFile(files, file))
  return { files: tree.files.length, bytes: tree.files.reduce((sum, file) => sum + file.entry.size, 0) }
}

/** The last part of a path, which the workspace itself does not have as `.`. */
const nameOf = ({ path: full }: FileEntry): string => safeName(path.posix.basename(full))

function safeName(name: string): string {
  if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name)) {
    throw new Failure('file.invalid_path', `The sandbox lists a file with the name ${JSON.stringify(name)}, which is not written here.`)
  }
  return name
}

async function gather(files: Files, { from, to, entry }: SandboxFile, tree: Tree): Promise<void> {
  if (entry.type === 'file') tree.files.push({ from, to, entry })
  else if (entry.type !== 'directory') note(`atoll: ${from} is a ${entry.type} and was left out`)
  else {
    tree.folders.push(to)
    for (const inner of await files.list(from)) {
      const name = safeName(inner.name)
      await gather(files, { from: path.posix.join(from, name), to: path.join(to, name), entry: inner }, tree)
    }
  }
}

/** Appears complete or not at all. */
async function fetchFile(files: Files, { from, to, entry }: SandboxFile): Promise<void> {
  const part = `${to}.atoll-part`
  try {
    await pipeline(chunksOf(await files.readStream(from)), createWriteStream(part))
    // Never more than the file's own permission bits: no set-uid from a sandbox.
    await chmod(part, Number.parseInt(entry.mode, 8) & 0o777)
    await rename(part, to)
  } catch (error) {
    await rm(part, { force: true })
    throw error
  }
}

async function toStandardOutput(files: Files, from: string): Promise<Copied> {
  let bytes = 0
  for await (const chunk of chunksOf(await files.readStream(from))) {
    bytes += chunk.length
    await writeTo(process.stdout, chunk)
  }
  return { files: 1, bytes }
}

async function* chunksOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      yield value
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}
