// The commands of a folder: `<folder>/bin/<command>`, each of which works wherever the folder is mounted and by whatever link it is called.
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'

async function place(folder: string, command: string, make: (draft: string) => Promise<void>): Promise<void> {
  const bin = path.join(folder, 'bin')
  await mkdir(bin, { recursive: true, mode: 0o755 })
  const draft = path.join(bin, `.draft-${process.pid}-${command}`)
  await rm(draft, { force: true })
  await make(draft)
  await rename(draft, path.join(bin, command))
}

/** @param file in the folder */
export const placeProgram = (folder: string, command: string, file: string): Promise<void> =>
  place(folder, command, (draft) => symlink(path.join('..', file), draft))

/** A script for the folder's own Node. */
export function placeScript(folder: string, command: string, file: string, options = ''): Promise<void> {
  const lines = ['#!/bin/sh', 'here=$(dirname "$(readlink -f "$0")")', `exec "$here/node" "$here/../${file}" ${options}"$@"`]
  return place(folder, command, (draft) => writeFile(draft, `${lines.join('\n')}\n`, { mode: 0o755 }))
}
