// The sidecar program as sandboxes get it: a copy that a later build or upgrade of the operator does not change under running sandboxes.
import { createHash } from 'node:crypto'
import { constants, createReadStream, existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, readdir, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Failure } from '@atoll/protocol'

const needed = ['node', 'sidecar.mjs', 'pty.node']

async function hashOf(folder: string, names: readonly string[]): Promise<string> {
  const hash = createHash('sha256')
  for (const name of names) {
    hash.update(`${name}\n`)
    await pipeline(createReadStream(path.join(folder, name)), hash, { end: false })
  }
  return hash.digest('hex').slice(0, 16)
}

/**
 * Copies the program in `from` to a folder of `into` that is named by its content, unless it is there already.
 * @throws Failure `config.invalid` when the program was not built
 */
export async function installProgram(from: string, into: string): Promise<string> {
  const missing = needed.filter((name) => !existsSync(path.join(from, name)))
  if (missing.length > 0) {
    throw new Failure(
      'config.invalid',
      `The sidecar program is not complete in ${from} (no ${missing.join(', ')}). Run npm run build:sidecar.`,
    )
  }
  const names = (await readdir(from)).sort()
  const folder = path.join(into, await hashOf(from, names))
  if (existsSync(folder)) return folder
  const draft = `${folder}.draft-${process.pid}`
  await rm(draft, { recursive: true, force: true })
  await mkdir(draft, { recursive: true, mode: 0o755 })
  for (const name of names) {
    // A reflink where the file system has them: the Node binary is large.
    await copyFile(path.join(from, name), path.join(draft, name), constants.COPYFILE_FICLONE)
    await chmod(path.join(draft, name), name === 'node' ? 0o755 : 0o644)
  }
  await rename(draft, folder)
  return folder
}
