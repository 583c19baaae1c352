// The image with harnesses, built as its users build it. What it is made from has a hash; an image of the same hash is not built again.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { baseImage } from '../operator/src/runtimes/docker/testing/machine.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const sources = ['.dockerignore', 'sidecar/Dockerfile.all-harness', 'sidecar/harnesses/**/*.{ts,json,sh}', 'sidecar/scripted-model/*.ts']
const officialTag = 'ghcr.io/tangle-network/blueprint-sidecar:all-harness'
const buildDeadlineMs = 900_000

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export function runProgram(command: string, argv: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, argv, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: buildDeadlineMs })
    const output = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text
      })
    }
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, ...output }))
  })
}

export async function engine(...argv: readonly string[]): Promise<Ended> {
  return await runProgram('docker', argv)
}

/** Runs a shell script in a container of the image, as root. */
export const inImage = (image: string, script: string): Promise<Ended> =>
  engine('run', '--rm', '--network', 'none', image, 'sh', '-c', script)

function sourceHash(): string {
  const hash = createHash('sha256')
  for (const file of sources.flatMap((pattern) => globSync(pattern, { cwd: root })).sort()) {
    if (!file.endsWith('.test.ts')) hash.update(`${file}\n`).update(readFileSync(path.join(root, file)))
  }
  return hash.digest('hex').slice(0, 16)
}

async function must(ended: Promise<Ended>, what: string): Promise<string> {
  const { code, stdout, stderr } = await ended
  if (code !== 0) throw new Error(`${what} ended with ${code}: ${stderr.slice(-1000)} ${stdout.slice(-1000)}`)
  return stdout.trim()
}

/** Of what other sources became, an image is over a gigabyte. What a container still uses stays. */
async function removeOlder(hash: string): Promise<void> {
  const { stdout } = await engine('image', 'ls', '--filter', 'reference=atoll/harnesses', '--format', '{{.Repository}}:{{.Tag}}')
  const older = stdout.split('\n').filter((tag) => tag && !tag.includes(`:${hash}`))
  if (older.length > 0) await engine('image', 'rm', ...older)
  await engine('image', 'prune', '--force', '--filter', 'label=atoll.stage=install', '--filter', 'until=1h')
}

/** The image of all harnesses, or of some: built unless one of the same sources is there. */
export async function harnessImage(subset?: string): Promise<string> {
  const baseId = await must(engine('image', 'inspect', '--format', '{{.Id}}', baseImage), 'looking for the base image')
  const hash = sourceHash()
  const tag = `atoll/harnesses:${hash}-${baseId.slice(-8)}${subset ? `-${subset.replaceAll(',', '-')}` : ''}`
  if ((await engine('image', 'inspect', tag)).code !== 0) {
    // Not every machine's containers reach npm, and a second image needs the same tarballs.
    const download = ['sidecar/harnesses/main.ts', 'download', '--downloads', 'sidecar/harnesses/downloads']
    await must(runProgram(process.execPath, download), 'downloading')
    const choice = subset ? ['--build-arg', `BLUEPRINT_HARNESSES=${subset}`] : ['-t', officialTag]
    // One at a time: test files that want the same image then find its layers made.
    const build = ['docker', 'build', '-f', 'sidecar/Dockerfile.all-harness', '-t', tag, ...choice, '.']
    await must(runProgram('flock', [path.join(os.tmpdir(), 'atoll-harness-image.lock'), ...build]), 'docker build')
    await removeOlder(hash)
  }
  return tag
}
