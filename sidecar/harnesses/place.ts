// A folder of its own for each turn: home, workspace and temporary files, all of the sandbox's user.
import { chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import type { Turn } from './harness.ts'
import { user } from './run.ts'

export interface Place extends AsyncDisposable {
  readonly home: string
  readonly workspace: string
  readonly env: Readonly<Record<string, string>>
}

async function ownedFolder(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true })
  if (user) await chown(folder, user.uid, user.gid)
  return folder
}

/** @param bin folder of the commands */
export async function makePlace(bin: string): Promise<Place> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'harness-'))
  await ownedFolder(folder)
  const home = await ownedFolder(path.join(folder, 'home'))
  const workspace = await ownedFolder(path.join(folder, 'workspace'))
  const temporary = await ownedFolder(path.join(folder, 'tmp'))
  const env = {
    HOME: home,
    TMPDIR: temporary,
    PATH: `${bin}:/usr/local/bin:/usr/bin:/bin`,
    LANG: 'C.UTF-8',
    USER: 'agent',
    SHELL: '/bin/sh',
  }
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  return { home, workspace, env, [Symbol.asyncDispose]: remove }
}

/** Every folder on the way is the user's too. */
async function placeFile(home: string, name: string, content: string): Promise<void> {
  const folders = path.dirname(name).split('/')
  for (const depth of folders.keys()) await ownedFolder(path.join(home, ...folders.slice(0, depth + 1)))
  await writeFile(path.join(home, name), content, { mode: 0o644 })
}

export async function placeFiles(home: string, { files }: Turn): Promise<void> {
  for (const [name, content] of Object.entries(files)) await placeFile(home, name, content)
}
