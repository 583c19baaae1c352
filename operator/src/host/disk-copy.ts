// Copies of mounted disks, and their way through archives.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { hostEnvironment, runCommand } from './command.ts'

const options = { env: { ...hostEnvironment } }
/** The file system is thawed by this program and not by the operator: also when the operator is killed, as its input ends then. */
const holdScript = 'fsfreeze -u "$0" 2>/dev/null; fsfreeze -f "$0" && { echo held; read -r line; fsfreeze -u "$0"; }'

async function holdStill(mountPoint: string): Promise<AsyncDisposable> {
  const holder = spawn('sh', ['-c', holdScript, mountPoint], { ...options, stdio: ['pipe', 'pipe', 'pipe'] })
  const ended = once(holder, 'close').catch(() => undefined) // A program that cannot be started is told of below.
  let said = ''
  holder.stderr.on('data', (bytes) => {
    said += bytes
  })
  const isHeld = await new Promise<boolean>((resolve, reject) => {
    createInterface({ input: holder.stdout }).once('line', () => resolve(true))
    holder.once('error', reject)
    holder.once('close', () => resolve(false))
  })
  if (!isHeld) throw new Error(`the file system at ${mountPoint} could not be frozen: ${said.trim()}`)
  return {
    [Symbol.asyncDispose]: async () => {
      holder.stdin.end()
      await ended
    },
  }
}

/** What a copy that was cut off may have left frozen takes writes again. Safe to repeat. */
export async function thawFileSystem(mountPoint: string): Promise<void> {
  await runCommand('fsfreeze', ['-u', mountPoint]).catch(() => undefined) // It was not frozen.
}

/** @throws Error with the program's own words */
async function finished(program: ReturnType<typeof spawn>, name: string): Promise<void> {
  let said = ''
  program.stderr?.on('data', (bytes) => {
    said = `${said}${bytes}`.slice(-2000)
  })
  const [code] = await once(program, 'close')
  if (code !== 0) throw new Error(`${name} failed: ${said.trim() || `it ended with ${code}`}`)
}

/** Holes stay holes; blocks are shared where the file system can. */
export async function copySparse(from: string, to: string, signal: AbortSignal): Promise<void> {
  await finished(
    spawn('cp', ['--reflink=auto', '--sparse=always', from, to], { ...options, signal, stdio: ['ignore', 'ignore', 'pipe'] }),
    'cp',
  )
}

/** Copies the image of a file system that is mounted and may be in use: it takes no write meanwhile, and the copy is a clean one. */
export async function copyMounted(
  { image, mountPoint }: { image: string; mountPoint: string },
  to: string,
  signal: AbortSignal,
): Promise<void> {
  const held = await holdStill(mountPoint)
  try {
    await copySparse(image, to, signal)
  } finally {
    await held[Symbol.asyncDispose]()
  }
}

export interface ArchivePlace {
  readonly directory: string
  readonly name: string
}

/** A file with its holes as a stream, to whoever takes it. */
export async function archiveFile(
  { directory, name }: ArchivePlace,
  take: (source: Readable) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const tar = spawn('tar', ['--sparse', '-C', directory, '-cf', '-', name], { ...options, signal, stdio: ['ignore', 'pipe', 'pipe'] })
  await Promise.all([finished(tar, 'tar'), take(tar.stdout)])
}

/** The other way round. */
export async function restoreFile(
  { directory, name }: ArchivePlace,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const tar = spawn('tar', ['--sparse', '--no-same-owner', '-C', directory, '-xf', '-', name], {
    ...options,
    signal,
    stdio: ['pipe', 'ignore', 'pipe'],
  })
  const results = await Promise.allSettled([pipeline(source, tar.stdin, { signal }), finished(tar, 'tar')])
  const [fed, unpacked] = results.map((result) => (result.status === 'rejected' ? result.reason : undefined))
  // A reader that has gone says why itself.
  const isGone = fed instanceof Error && 'code' in fed && (fed.code === 'EPIPE' || fed.code === 'ERR_STREAM_PREMATURE_CLOSE')
  const reason = isGone ? (unpacked ?? fed) : (fed ?? unpacked)
  if (reason) throw reason
}
