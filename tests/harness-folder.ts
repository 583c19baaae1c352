// Harnesses for namespace sandboxes, installed as `atoll harness install` does, once for each set of versions.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))
const sources = ['sidecar/harnesses/**/*.{ts,json}', 'sidecar/scripted-model/*.ts']
const installDeadlineMs = 600_000

function sourceHash(): string {
  const hash = createHash('sha256')
  for (const file of sources.flatMap((pattern) => globSync(pattern, { cwd: root, exclude: ['**/downloads/**'] })).sort()) {
    hash.update(`${file}\n`).update(readFileSync(path.join(root, file)))
  }
  return hash.digest('hex').slice(0, 16)
}

/** A folder with all harnesses. Test files that want it at once wait for the one that installs. */
export async function harnessFolder(): Promise<string> {
  const folder = path.join(os.tmpdir(), `atoll-harnesses-${sourceHash()}`)
  const args = ['sidecar/harnesses/main.ts', 'install', 'all', '--folder', folder, '--downloads', 'sidecar/harnesses/downloads']
  await promisify(execFile)('flock', [`${folder}.lock`, process.execPath, ...args], { cwd: root, timeout: installDeadlineMs })
  return folder
}
