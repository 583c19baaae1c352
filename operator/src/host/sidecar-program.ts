// The sidecar program as sandboxes get it: a copy that a later build or upgrade of the operator does not change under running sandboxes.
import { createHash } from 'node:crypto'
import { constants, existsSync } from 'node:fs'
import { chmod, copyFile, link, mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '@atoll/protocol'

const needed = ['node', 'sidecar.mjs', 'pty.node']
/** Known by size and time instead of by content: it is large, and read at every start of the operator. */
const large = 'node'

async function versionOf(folder: string, names: readonly string[]): Promise<string> {
  const hash = createHash('sha256')
  for (const name of names) {
    const path = join(folder, name)
    const { size, mtimeMs } = await stat(path)
    hash.update(`${name} ${size}\n`).update(name === large ? String(mtimeMs) : await readFile(path))
  }
  return hash.digest('hex').slice(0, 16)
}

/** Another name for the same file where that is possible and everybody may use it, else a copy, by reflink where there are such. */
async function place(from: string, to: string, mode: number): Promise<void> {
  try {
    if (((await stat(from)).mode & mode) !== mode) throw new Error('only a copy may have another mode')
    await link(from, to)
  } catch {
    await copyFile(from, to, constants.COPYFILE_FICLONE)
    await chmod(to, mode)
  }
}

/**
 * Puts the program in `from` into a folder of `into` that is named by its version, unless it is there already.
 * @throws Failure `config.invalid` when the program was not built
 */
export async function installProgram(from: string, into: string): Promise<string> {
  const missing = needed.filter((name) => !existsSync(join(from, name)))
  if (missing.length > 0) {
    throw new Failure(
      'config.invalid',
      `The sidecar program is not complete in ${from} (no ${missing.join(', ')}). Run npm run build:sidecar.`,
    )
  }
  const names = (await readdir(from)).sort()
  const folder = join(into, await versionOf(from, names))
  if (existsSync(folder)) return folder
  const draft = `${folder}.draft-${process.pid}`
  await rm(draft, { recursive: true, force: true })
  await mkdir(draft, { recursive: true })
  await chmod(draft, 0o755)
  for (const name of names) await place(join(from, name), join(draft, name), name === large ? 0o755 : 0o644)
  await rename(draft, folder)
  return folder
}

/** The program's folder below the operator's state folder. */
export const keepSidecarProgram = (programDir: string, stateDir: string): Promise<string> =>
  installProgram(programDir, join(stateDir, 'program'))
