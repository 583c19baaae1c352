// A real pseudo-terminal with a shell of the sandbox user behind it.
import { chownSync, existsSync, writeSync } from 'node:fs'
import { Failure } from '@atoll/protocol'
import { type IPty, spawn } from '@lydell/node-pty'
import type { Launch } from '../commands/launcher.ts'
import type { Masters } from '../commands/masters.ts'
import type { Unprotected } from '../commands/oom-score.ts'
import type { User } from '../config.ts'

/** What a program that does not read its input may leave waiting. */
const maxWaitingBytes = 1024 * 1024
const retryMs = 10

export interface Size {
  readonly cols: number
  readonly rows: number
}

export interface PtyOptions {
  readonly launch: Launch
  readonly size: Size
  readonly user: User
  readonly unprotected: Unprotected
  readonly masters: Masters
  readonly onData: (bytes: Buffer) => void
  readonly onExit: (code: number, signal: number | undefined) => void
}

/** node-pty has these and does not declare them. */
function inner(pty: IPty): { fd: number; name: string } {
  if (!('fd' in pty) || typeof pty.fd !== 'number' || !('ptsName' in pty) || typeof pty.ptsName !== 'string') {
    throw new Error('This node-pty does not tell its descriptor.')
  }
  return { fd: pty.fd, name: pty.ptsName }
}

const isFullQueue = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'EAGAIN'

export class Pty {
  readonly pid: number
  readonly #pty: IPty
  readonly #fd: number
  #waiting: Buffer[] = []
  #waitingBytes = 0
  #retry: NodeJS.Timeout | undefined
  #isOpen = true
  #flushed = Promise.withResolvers<void>()

  constructor(pty: IPty, { user, masters, onData, onExit }: PtyOptions) {
    this.#pty = pty
    this.pid = pty.pid
    const { fd, name } = inner(pty)
    this.#fd = fd
    const forget = masters.add(fd)
    // The terminal was opened by the sidecar and is the user's: programs open it again by its name.
    chownSync(name, user.uid, user.gid)
    // Without an encoding node-pty gives bytes, whatever its types say.
    pty.onData((data: string | Buffer) => onData(Buffer.from(data)))
    pty.onExit(({ exitCode, signal }) => {
      forget()
      this.#close()
      onExit(exitCode, signal || undefined)
    })
  }

  #close(): void {
    this.#isOpen = false
    this.#waiting = []
    this.#waitingBytes = 0
    clearTimeout(this.#retry)
    this.#flushed.resolve()
  }

  /**
   * Types. node-pty's own write spins until the program reads, with the whole sidecar standing still; here what does not fit waits.
   * @throws Failure `request.busy` when too much waits already
   */
  write(bytes: Buffer): void {
    if (!this.#isOpen) throw new Failure('terminal.ended', 'The shell of this terminal has ended.')
    if (this.#waitingBytes + bytes.length > maxWaitingBytes) {
      throw new Failure('request.busy', 'The program in the terminal does not read its input.', { retryAfterMs: 1000 })
    }
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    if (this.#retry === undefined) this.#flush()
  }

  /** Resolves when nothing waits. */
  flushed(): Promise<void> {
    return this.#waitingBytes === 0 ? Promise.resolve() : this.#flushed.promise
  }

  #flush(): void {
    this.#retry = undefined
    try {
      for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
        const written = writeSync(this.#fd, next)
        this.#waitingBytes -= written
        if (written === next.length) this.#waiting.shift()
        else this.#waiting[0] = next.subarray(written)
      }
    } catch (error) {
      // Anything else means that the other side is gone; its exit is on its way.
      if (isFullQueue(error)) this.#retry = setTimeout(() => this.#flush(), retryMs)
      return
    }
    this.#flushed.resolve()
    this.#flushed = Promise.withResolvers()
  }

  resize({ cols, rows }: Size): void {
    if (this.#isOpen) this.#pty.resize(cols, rows)
  }

  pause(): void {
    this.#pty.pause()
  }

  resume(): void {
    this.#pty.resume()
  }
}

/** Most shells close only descriptors of one digit, and this one forgets the prompt that it was given. */
const closingShell = '/bin/bash'
const closing = 'for n in $1; do exec {n}<&-; done; [ -z "$2" ] || export PS1="$2"; unset n; shift 2; exec "$@"'

/** The library hands its children every master that is open. Where there is a shell that can, it closes those of the other terminals. */
function withoutMasters({ argv, env }: Launch, masters: Masters): readonly string[] {
  const others = masters.descriptors
  if (others.length === 0 || !existsSync(closingShell)) return argv
  return [closingShell, '-c', closing, 'bash', others.join(' '), env['PS1'] ?? '', ...argv]
}

/** @throws Failure `process.spawn_failed` */
export function openPty(options: PtyOptions): Pty {
  const { launch, size, user, unprotected, masters } = options
  const [program = '', ...rest] = withoutMasters(launch, masters)
  try {
    const pty = unprotected(() =>
      spawn(program, rest, {
        name: launch.env.TERM ?? 'xterm-256color',
        cwd: launch.cwd,
        env: launch.env,
        uid: user.uid,
        gid: user.gid,
        encoding: null,
        ...size,
      }),
    )
    return new Pty(pty, options)
  } catch (cause) {
    throw new Failure('process.spawn_failed', 'The sandbox could not open a terminal. It may be at a limit.', { cause, retryAfterMs: 1000 })
  }
}
