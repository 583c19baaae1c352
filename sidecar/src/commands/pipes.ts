// Real pipes for the standard streams of users' processes. Node gives its children socket pairs, which cannot be opened again by name, so
// that `echo x > /dev/stderr` fails on them. A named pipe would not do either: who opens one whose other end has closed waits for ever.
// Node cannot make pipes without a name, but a shell makes one for each here-document, and root may open what a process of its has open.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, fchownSync, fstatSync, openSync, readSync } from 'node:fs'
import type { User } from '../config.ts'
import { findShells } from '../environment.ts'
import { describe, type Log } from '../log.ts'
import type { Masters } from './masters.ts'
import type { Unprotected } from './oom-score.ts'

/** Two descriptors of the sidecar, each of which is passed on or closed by whoever takes the pipe. */
export interface Pipe {
  readonly reader: number
  readonly writer: number
}

export interface PipesParts {
  readonly user: User
  readonly unprotected: Unprotected
  readonly masters: Masters
  readonly log: Log
}

/** All that a shell has to know beside its own; some know only those of one digit. */
const descriptors = [3, 4, 5, 6, 7, 8, 9]
/** An empty here-document may be no pipe, so it has one line. */
const script = [
  'while read -r go; do',
  ...descriptors.map((number) => `exec ${number}<<'END'\n\nEND`),
  'echo made',
  'read -r go || exit',
  `exec ${descriptors.map((number) => `${number}<&-`).join(' ')}`,
  'echo closed',
  'done',
].join('\n')

const deadlineMs = 2000
/** After the shell failed, commands get socket pairs for so long before it is tried again. */
const restMs = 10_000
/** More is made when fewer are left, and not while a command is just starting. */
const fewPipes = 8
const refillDelayMs = 10

export function closePipe({ reader, writer }: Pipe): void {
  closeSync(reader)
  closeSync(writer)
}

function openReader(file: string, { uid, gid }: User): number {
  const reader = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    if (!fstatSync(reader).isFIFO()) throw new Error('The shell makes no pipes for its here-documents.')
    if (readSync(reader, Buffer.alloc(2)) !== 1) throw new Error('The pipe of a here-document is not as expected.')
    // So that the user may open it again, by the names in /dev.
    fchownSync(reader, uid, gid)
    return reader
  } catch (error) {
    closeSync(reader)
    throw error
  }
}

function openPipe(file: string, user: User): Pipe {
  // Both ends while it is still root's: the sidecar may not open what is the user's alone.
  const writer = openSync(file, constants.O_WRONLY)
  try {
    return { reader: openReader(file, user), writer }
  } catch (error) {
    closeSync(writer)
    throw error
  }
}

/** A shell of the sidecar's that makes pipes, a batch at a time. */
class Maker {
  readonly #shell: ChildProcess
  readonly #ended: Promise<never>

  constructor(shell: string, { unprotected, masters }: Pick<PipesParts, 'unprotected' | 'masters'>) {
    const stdio = masters.covered(['pipe', 'pipe', 'ignore'])
    this.#shell = unprotected(() => spawn(shell, ['-c', script], { cwd: '/', env: {}, stdio }))
    this.#ended = new Promise((_, reject) => {
      this.#shell.once('error', reject)
      this.#shell.once('exit', (code, signal) => reject(new Error(`The shell that makes pipes ended (${signal ?? code}).`)))
    })
    this.#ended.catch(() => undefined)
    this.#shell.stdin?.on('error', () => this.close())
  }

  async make(user: User): Promise<Pipe[]> {
    await this.#step()
    const pipes: Pipe[] = []
    try {
      for (const number of descriptors) pipes.push(openPipe(`/proc/${this.#shell.pid}/fd/${number}`, user))
      // As long as the shell has an end open too, nobody would see the other one close.
      await this.#step()
      return pipes
    } catch (error) {
      for (const pipe of pipes) closePipe(pipe)
      throw error
    }
  }

  /** Lets the shell go on, and waits until it is done. */
  async #step(): Promise<void> {
    const { stdin, stdout } = this.#shell
    if (!stdin || !stdout) throw new Error('The shell that makes pipes cannot be talked to.')
    const waiting = new AbortController()
    const timer = setTimeout(() => waiting.abort(new Error(`No pipe was made within ${deadlineMs} ms.`)), deadlineMs)
    try {
      const answered = once(stdout, 'data', { signal: waiting.signal })
      stdin.write('\n')
      await Promise.race([answered, this.#ended])
    } finally {
      clearTimeout(timer)
      waiting.abort()
    }
  }

  close(): void {
    this.#shell.kill('SIGKILL')
  }
}

/** Keeps some pipes at hand, so that a command need not wait for its own. */
export class Pipes {
  readonly #parts: PipesParts
  readonly #spare: Pipe[] = []
  #maker: Maker | undefined
  #filling: Promise<boolean> | undefined
  #refill: NodeJS.Timeout | undefined
  #restsUntil = 0

  constructor(parts: PipesParts) {
    this.#parts = parts
  }

  /** Makes the first ones, so that the first command finds them. */
  prepare(): void {
    void this.#fill()
  }

  /** Undefined when none can be made here: an image need not have a shell. */
  async take(count: number): Promise<readonly Pipe[] | undefined> {
    while (this.#spare.length < count) if (!(await this.#fill())) return undefined
    const taken = this.#spare.splice(0, count)
    if (this.#spare.length < fewPipes) this.#refillSoon()
    return taken
  }

  /** Takes pipes back that nobody has used. */
  giveBack(pipes: readonly Pipe[]): void {
    this.#spare.push(...pipes)
  }

  #refillSoon(): void {
    this.#refill ??= setTimeout(() => {
      this.#refill = undefined
      void this.#fill().then((isFilled) => {
        if (isFilled && this.#spare.length < fewPipes) this.#refillSoon()
      })
    }, refillDelayMs)
  }

  #fill(): Promise<boolean> {
    this.#filling ??= this.#make().finally(() => {
      this.#filling = undefined
    })
    return this.#filling
  }

  async #make(): Promise<boolean> {
    const shell = findShells().command
    if (shell === undefined || performance.now() < this.#restsUntil) return false
    try {
      this.#maker ??= new Maker(shell, this.#parts)
      this.#spare.push(...(await this.#maker.make(this.#parts.user)))
      return true
    } catch (error) {
      this.#parts.log('warn', 'commands have no pipes that can be opened again by name', describe(error))
      this.#maker?.close()
      this.#maker = undefined
      this.#restsUntil = performance.now() + restMs
      return false
    }
  }
}
