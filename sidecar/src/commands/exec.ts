// Runs one command and answers its whole output.
import { constants } from 'node:os'
import type { Readable, Writable } from 'node:stream'
import type { ExecResult, Exit } from '@atoll/protocol'
import type { RunRequest } from '@atoll/protocol/sidecar'
import { completeLength } from '../utf8.ts'
import type { Child } from './child.ts'
import { isChild, type Launcher } from './launcher.ts'

const defaultTimeoutMs = 30_000

/** The shell's number for an exit; never 0 unless the process exited with 0. */
export function exitNumber(exit: Exit): number {
  if (exit.type === 'exited') return exit.code
  if (exit.type === 'lost') return 255
  const numbers: Readonly<Record<string, number | undefined>> = constants.signals
  return 128 + (numbers[exit.signal] ?? 0)
}

/** The first bytes of a stream; the rest is read and thrown away, so that the writer goes on. */
class Capture {
  readonly #chunks: Buffer[] = []
  readonly #limit: number
  #size = 0
  #isTruncated = false

  constructor(stream: Readable, limit: number) {
    this.#limit = limit
    // A broken pipe ends the stream like a closed one does.
    stream.on('error', () => stream.destroy())
    stream.on('data', (chunk: Buffer) => this.#take(chunk))
  }

  #take(chunk: Buffer): void {
    const room = this.#limit - this.#size
    if (chunk.length > room) this.#isTruncated = true
    if (room <= 0) return
    const part = chunk.length > room ? chunk.subarray(0, room) : chunk
    this.#chunks.push(part)
    this.#size += part.length
  }

  get isTruncated(): boolean {
    return this.#isTruncated
  }

  text(): string {
    const bytes = this.#chunks.length === 1 && this.#chunks[0] ? this.#chunks[0] : Buffer.concat(this.#chunks)
    return bytes.toString('utf8', 0, this.#isTruncated ? completeLength(bytes) : bytes.length)
  }
}

/** A program may close its input before it has read all of it; that is its own affair. */
function feed(stdin: Writable | null, text: string | undefined): void {
  if (!stdin) return
  stdin.on('error', () => stdin.destroy())
  stdin.end(text)
}

async function collect(child: Child, request: RunRequest, { limit, signal }: { limit: number; signal: AbortSignal }): Promise<ExecResult> {
  const startedAt = performance.now()
  const stdout = new Capture(child.stdout, limit)
  const stderr = new Capture(child.stderr, limit)
  // 0 is the default too: a command that nobody can end must be started as a process.
  child.stopAfter(request.timeout_ms || defaultTimeoutMs)
  const abandon = (): void => void child.stop()
  if (signal.aborted) abandon()
  else signal.addEventListener('abort', abandon, { once: true })
  feed(child.stdin, request.stdin)
  const exit = await child.settled()
  signal.removeEventListener('abort', abandon)
  return {
    exit_code: exitNumber(exit),
    exit,
    stdout: stdout.text(),
    stderr: stderr.text(),
    truncated: stdout.isTruncated || stderr.isTruncated,
    timed_out: child.isTimedOut,
    duration_ms: performance.now() - startedAt,
  }
}

/** @throws Failure as `Launcher.launch` */
export async function exec(launcher: Launcher, request: RunRequest, options: { limit: number; signal: AbortSignal }): Promise<ExecResult> {
  const launched = await launcher.launch(launcher.plan(request, request.stdin === undefined ? 'ignore' : 'pipe'))
  if (isChild(launched)) return collect(launched, request, options)
  return {
    exit_code: launched.code,
    exit: { type: 'exited', code: launched.code },
    stdout: '',
    stderr: launched.message,
    truncated: false,
    timed_out: false,
    duration_ms: 0,
  }
}
