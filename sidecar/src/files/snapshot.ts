// What a directory tree looks like at a moment, cheap enough to be taken after each command.
import { lstat, readdir } from 'node:fs/promises'
import path from 'node:path'
import { isDraft } from './entries.ts'

const maxFiles = 20_000
const maxMs = 1500
const statsAtOnce = 64
/** Trees that programs fill, not people; and what the sidecar writes half. */
const isPassedOver = (name: string): boolean => name === 'node_modules' || name === '.git' || isDraft(name)

export interface Snapshot {
  /** Path relative to the directory, to a text that is another one when the file is. */
  readonly files: Readonly<Record<string, string>>
  /** False for a tree too large to look at. */
  readonly is_complete: boolean
}

async function fingerprint(file: string): Promise<string | undefined> {
  try {
    const { mtimeMs, size, ino } = await lstat(file)
    return `${mtimeMs} ${size} ${ino}`
  } catch {
    // It has gone meanwhile.
    return undefined
  }
}

export async function takeSnapshot(root: string): Promise<Snapshot> {
  const deadline = performance.now() + maxMs
  const files: Record<string, string> = {}
  let count = 0
  const pending = ['']
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    const base = directory
    const entries = await readdir(path.join(root, base), { withFileTypes: true }).catch(() => [])
    const known = entries.filter(({ name }) => !isPassedOver(name))
    pending.push(...known.filter((entry) => entry.isDirectory()).map(({ name }) => path.join(base, name)))
    const names = known.filter((entry) => !entry.isDirectory()).map(({ name }) => path.join(base, name))
    count += names.length
    if (count > maxFiles || performance.now() > deadline) return { files: {}, is_complete: false }
    for (let start = 0; start < names.length; start += statsAtOnce) {
      const some = names.slice(start, start + statsAtOnce)
      const found = await Promise.all(some.map((name) => fingerprint(path.join(root, name))))
      for (const [index, name] of some.entries()) if (found[index] !== undefined) files[name] = found[index]
    }
  }
  return { files, is_complete: true }
}

export interface Change {
  readonly path: string
  readonly change: 'add' | 'modify' | 'delete'
}

/** What became of one tree until the other. Nothing is known when one of them was too large. */
export function changesBetween(before: Snapshot, after: Snapshot): readonly Change[] {
  if (!before.is_complete || !after.is_complete) return []
  const changes: Change[] = []
  for (const [file, state] of Object.entries(after.files)) {
    const earlier = before.files[file]
    if (earlier === undefined) changes.push({ path: file, change: 'add' })
    else if (earlier !== state) changes.push({ path: file, change: 'modify' })
  }
  for (const file of Object.keys(before.files)) if (after.files[file] === undefined) changes.push({ path: file, change: 'delete' })
  return changes
}
