import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { Exit } from '@atoll/protocol'
import type { Streams } from './streams.ts'

/** Sends a signal to every process of a group; a group that is gone is no failure. */
export function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

export const exitOf = (code: number | null, signal: NodeJS.Signals | null): Exit => {
  if (signal !== null) return { type: 'signalled', signal }
  return code === null ? { type: 'lost', reason: 'The kernel gave no exit status.' } : { type: 'exited', code }
}

/** After the main process ended, a grandchild that holds the pipes is waited for so long. */
const lingerMs = 500

/** A started process with its own group, as long as it lives and a little longer. */
export class Child {
  readonly pid: number
  readonly stdin: Streams['stdin']
  readonly stdout: Streams['stdout']
  readonly stderr: Streams['stderr']
  /** Resolves when the main process has ended, whoever still holds its pipes. */
  readonly exit: Promise<Exit>
  readonly #graceMs: number
  #isAlive = true
  #isTimedOut = false

  constructor(spawned: ChildProcess, { pid, streams, graceMs }: { pid: number; streams: Streams; graceMs: number }) {
    this.pid = pid
    this.stdin = streams.stdin
    this.stdout = streams.stdout
    this.stderr = streams.stderr
    this.#graceMs = graceMs
    this.exit = new Promise((resolve) => {
      spawned.once('exit', (code, signal) => {
        this.#isAlive = false
        this.stdin?.destroy()
        resolve(exitOf(code, signal))
      })
    })
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  get isTimedOut(): boolean {
    return this.#isTimedOut
  }

  signal(signal: NodeJS.Signals): void {
    signalGroup(this.pid, signal)
  }

  /** Ends the whole group: SIGTERM, and SIGKILL for what is left after the grace. */
  async stop(): Promise<void> {
    this.signal('SIGTERM')
    await delay(this.#graceMs, undefined, { ref: false })
    this.signal('SIGKILL')
  }

  /** Stops the group after so long, unless the main process ends before. */
  stopAfter(timeoutMs: number): void {
    const timer = setTimeout(() => {
      if (!this.#isAlive) return
      this.#isTimedOut = true
      void this.stop()
    }, timeoutMs)
    void this.exit.then(() => clearTimeout(timer))
  }

  /**
   * Resolves when the process has ended and its output was read. A grandchild in the background may keep the pipes open for ever,
   * so the wait for them is short; while `isHeld` says that reading is paused, the time does not count.
   */
  async settled(isHeld: () => boolean = () => false): Promise<Exit> {
    const pipes = Promise.all([closed(this.stdout), closed(this.stderr)])
    const exit = await this.exit
    if (this.stdout.closed && this.stderr.closed) return exit
    let isDrained = false
    void pipes.then(() => {
      isDrained = true
    })
    do {
      const waiting = new AbortController()
      await Promise.race([pipes, delay(lingerMs, undefined, { signal: waiting.signal }).catch(() => undefined)])
      waiting.abort()
    } while (!isDrained && isHeld())
    return exit
  }
}

const closed = (stream: Readable): Promise<unknown> => (stream.closed ? Promise.resolve() : once(stream, 'close').catch(() => undefined))
