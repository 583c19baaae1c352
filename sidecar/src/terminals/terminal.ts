// One terminal session: a shell on a pseudo-terminal, its scrollback, and whoever looks at it.
import { readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure, type Terminal as TerminalView } from '@atoll/protocol'
import { signalGroup } from '../commands/child.ts'
import { completeLength } from '../utf8.ts'
import type { Pty, PtyOptions, Size } from './pty.ts'
import { Scrollback } from './scrollback.ts'

/** The beginning of a character is waited for so long. */
const holdMs = 100
const heldBackMs = 20

const signalName = (number: number | undefined): string | null =>
  Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? null

/** Everything of a session, jobs in the background too: they have groups of their own. */
function signalSession(leader: number, signal: NodeJS.Signals): void {
  const groups = new Set([leader])
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      const [, , group, session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (Number(session) === leader) groups.add(Number(group))
    } catch (error) {
      // It ended while it was looked at.
      if (!(error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH'))) throw error
    }
  }
  for (const group of groups) signalGroup(group, signal)
}

export interface TerminalOptions extends Pick<PtyOptions, 'launch' | 'size' | 'user' | 'unprotected' | 'masters'> {
  readonly id: string
  readonly title: string | undefined
  readonly scrollbackBytes: number
  readonly killGraceMs: number
}

export class Terminal {
  readonly id: string
  readonly scrollback: Scrollback
  readonly #options: TerminalOptions
  readonly #createdAt = Date.now()
  #pty: Pty | undefined
  #size: Size
  #lastActivityAt = Date.now()
  #held: Buffer = Buffer.alloc(0)
  #holding: NodeJS.Timeout | undefined
  #isPaused = false
  readonly #ended = Promise.withResolvers<void>()

  constructor(options: TerminalOptions) {
    this.#options = options
    this.id = options.id
    this.#size = options.size
    this.scrollback = new Scrollback(options.scrollbackBytes)
  }

  /** @throws Failure `process.spawn_failed` */
  async open(): Promise<void> {
    const { launch, size, user, unprotected, masters } = this.#options
    const onData = (bytes: Buffer): void => this.#take(bytes)
    const onExit = (code: number, signal: number | undefined): void => this.#end(code, signal)
    // Loaded with the first terminal, so that it costs the start of a sandbox nothing.
    const { openPty } = await import('./pty.ts')
    this.#pty = openPty({ launch, size, user, unprotected, masters, onData, onExit })
  }

  get isRunning(): boolean {
    return !this.scrollback.isEnded
  }

  /** When somebody last typed, looked, or the terminal last wrote. */
  get idleSince(): number {
    return this.scrollback.viewerCount > 0 ? Date.now() : this.#lastActivityAt
  }

  touch(): void {
    this.#lastActivityAt = Date.now()
  }

  view(): TerminalView {
    const { title } = this.#options
    return {
      session_id: this.id,
      ...(title !== undefined && { title }),
      ...this.#size,
      running: this.isRunning,
      created_at: this.#createdAt,
    }
  }

  #take(chunk: Buffer): void {
    this.touch()
    clearTimeout(this.#holding)
    const bytes = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : chunk
    const length = completeLength(bytes)
    this.#held = Buffer.from(bytes.subarray(length))
    if (length > 0) this.scrollback.append({ type: 'data', bytes: bytes.subarray(0, length) })
    if (this.#held.length > 0) this.#holding = setTimeout(() => this.#release(), holdMs)
    if (this.scrollback.isFarAhead) void this.#wait()
  }

  #release(): void {
    clearTimeout(this.#holding)
    if (this.#held.length > 0) this.scrollback.append({ type: 'data', bytes: this.#held })
    this.#held = Buffer.alloc(0)
  }

  /** Holds the terminal back until a viewer has caught up, or nobody looks. */
  async #wait(): Promise<void> {
    if (this.#isPaused) return
    this.#isPaused = true
    this.#pty?.pause()
    while (this.scrollback.isFarAhead) await delay(heldBackMs)
    this.#isPaused = false
    this.#pty?.resume()
  }

  #end(code: number, signalNumber: number | undefined): void {
    this.#release()
    const signal = signalName(signalNumber)
    this.scrollback.append({ type: 'event', event: { type: 'exit', code: signal === null ? code : null, signal } })
    this.scrollback.end()
    this.#ended.resolve()
  }

  #running(): Pty {
    if (!this.#pty || !this.isRunning) throw new Failure('terminal.ended', `The shell of the terminal session ${this.id} has ended.`)
    return this.#pty
  }

  /** Types, and resolves when the terminal has taken it. @throws Failure `terminal.ended`, `request.busy` */
  async input(bytes: Buffer): Promise<void> {
    this.touch()
    const pty = this.#running()
    pty.write(bytes)
    await pty.flushed()
  }

  /** @throws Failure `terminal.ended` */
  resize(size: Size): void {
    this.touch()
    this.#running().resize(size)
    this.#size = size
  }

  /** Ends everything of the session, as when a person closes the window, and by force after the grace. */
  async close(graceMs: number = this.#options.killGraceMs): Promise<void> {
    const pid = this.#pty?.pid
    if (pid !== undefined && this.isRunning) {
      signalSession(pid, 'SIGHUP')
      await Promise.race([this.#ended.promise, delay(graceMs, undefined, { ref: false })])
      signalSession(pid, 'SIGKILL')
    }
    this.scrollback.remove()
  }
}
