// Local files and folders into a sandbox.
import { createReadStream } from 'node:fs'
import { opendir, stat } from 'node:fs/promises'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { Failure, type Files } from '@atoll/sdk'
import { note } from '../print.ts'
import { type Copied, inParallel, standardStream } from './place.ts'

interface LocalFile {
  readonly from: string
  readonly to: string
  readonly mode: string
  readonly bytes: number
}

interface Tree {
  readonly folders: string[]
  readonly files: LocalFile[]
}

export async function upload(from: string, files: Files, to: string): Promise<Copied> {
  if (from === standardStream) {
    const { size } = await files.write(to, webStream(process.stdin))
    return { files: 1, bytes: size }
  }
  const target = (await isFolder(files, to)) ? path.posix.join(to, path.basename(path.resolve(from))) : to
  const tree: Tree = { folders: [], files: [] }
  await gather(from, target, tree)
  for (const folder of tree.folders) await files.mkdir(folder)
  await inParallel(tree.files, async (file) => {
    await files.write(file.to, webStream(createReadStream(file.from)), { mode: file.mode })
  })
  return { files: tree.files.length, bytes: tree.files.reduce((sum, { bytes }) => sum + bytes, 0) }
}

/** As with cp: what exists as a folder, or ends in a slash, is copied into. */
async function isFolder(files: Files, to: string): Promise<boolean> {
  if (to.endsWith('/')) return true
  return (await files.exists(to)) && (await files.stat(to)).type === 'directory'
}

async function gather(from: string, to: string, tree: Tree): Promise<void> {
  const found = await stat(from).catch((cause: NodeJS.ErrnoException) => {
    throw new Failure('file.not_found', `${from} cannot be read: ${cause.code ?? cause.message}.`, { cause })
  })
  if (found.isFile()) tree.files.push({ from, to, mode: (found.mode & 0o777).toString(8), bytes: found.size })
  else if (found.isDirectory()) await gatherFolder(from, to, tree)
  else note(`atoll: ${from} is neither a file nor a folder and was left out`)
}

async function gatherFolder(from: string, to: string, tree: Tree): Promise<void> {
  tree.folders.push(to)
  for await (const entry of await opendir(from)) {
    const inner = path.join(from, entry.name)
    // A link to a folder may lead in a circle, or far out of what was meant.
    const isFolderLink =
      entry.isSymbolicLink() &&
      (await stat(inner).then(
        (target) => target.isDirectory(),
        () => true,
      ))
    if (isFolderLink) note(`atoll: ${inner} is a link and was left out`)
    else await gather(inner, path.posix.join(to, entry.name), tree)
  }
}

function webStream(stream: Readable): ReadableStream<Uint8Array> {
  const chunks = stream[Symbol.asyncIterator]()
  return new ReadableStream({
    pull: async (controller) => {
      const { done, value } = await chunks.next()
      if (done) controller.close()
      else controller.enqueue(value)
    },
    cancel: () => void stream.destroy(),
  })
}
