// Copies of mounted disks, and their way through archives.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
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

/** Takes the source to its end, also when the reader has enough before: what is wrong at the end of it is found there. */
async function feed(source: AsyncIterable<Uint8Array>, reader: Writable): Promise<void> {
  reader.on('error', () => undefined) // Why it reads no more, it says itself.
  const closed = new Promise((resolve) => reader.once('close', resolve))
  try {
    for await (const bytes of source) {
      if (reader.destroyed || reader.write(bytes)) continue
      await Promise.race([closed, new Promise((resolve) => reader.once('drain', resolve))])
    }
  } finally {
    reader.end()
  }
}

/** The other way round. */
export async function restoreFile(
  { directory, name }: ArchivePlace,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const args = ['--sparse', '--no-same-owner', '-C', directory, '-xf', '-', name]
  const tar = spawn('tar', args, { ...options, signal, stdio: ['pipe', 'ignore', 'pipe'] })
  const results = await Promise.allSettled([finished(tar, 'tar'), feed(source, tar.stdin)])
  const [unpacked, fed] = results.map((result) => (result.status === 'rejected' ? result.reason : undefined))
  // An archive that breaks off is none to its reader; why it broke off tells more.
  if (fed ?? unpacked) throw fed ?? unpacked
}
