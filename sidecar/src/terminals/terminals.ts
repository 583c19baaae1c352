// The terminal sessions of the sandbox.
import { Failure } from '@atoll/protocol'
import type { Launcher } from '../commands/launcher.ts'
import type { Masters } from '../commands/masters.ts'
import type { Unprotected } from '../commands/oom-score.ts'
import type { Config } from '../config.ts'
import { findShells } from '../environment.ts'
import { cursorOf, isSpectator, sendEvents } from '../event-stream.ts'
import { randomId } from '../random-id.ts'
import type { Call, Routes } from '../router.ts'
import type { UpgradeHandler } from '../server.ts'
import type { Size } from './pty.ts'
import { Terminal } from './terminal.ts'

export interface OpenTerminal extends Size {
  readonly cwd?: string
  readonly title?: string
  readonly env?: Readonly<Record<string, string>>
}

export interface TerminalsParts {
  readonly config: Config
  readonly launcher: Launcher
  readonly unprotected: Unprotected
  readonly masters: Masters
}

/** The prompt that the web client expects, in any directory. */
const promptVariables = { TERM: 'xterm-256color', PS1: '\\u:\\w\\$ ', PROMPT_DIRTRIM: '0' } as const
const maxSweepMs = 60_000

export class Terminals {
  readonly #parts: TerminalsParts
  readonly #all = new Map<string, Terminal>()

  constructor(parts: TerminalsParts) {
    this.#parts = parts
    const { terminalIdleMs } = parts.config.limits
    setInterval(() => void this.#expire(), Math.min(maxSweepMs, Math.ceil(terminalIdleMs / 2))).unref()
  }

  get count(): number {
    return this.list().filter((terminal) => terminal.isRunning).length
  }

  list(): Terminal[] {
    return [...this.#all.values()]
  }

  /** @throws Failure `terminal.not_found` */
  get(id: string): Terminal {
    const terminal = this.#all.get(id)
    if (!terminal) throw new Failure('terminal.not_found', `There is no terminal session ${id} in this sandbox, or it has expired.`)
    return terminal
  }

  /** @throws Failure `terminal.too_many`, `image.no_shell`, `process.spawn_failed`, or why the working directory will not do */
  async open({ cwd, cols = 80, rows = 24, title, env }: Partial<OpenTerminal>): Promise<Terminal> {
    const { config, launcher, unprotected, masters } = this.#parts
    const shell = findShells().login
    if (shell === undefined) throw new Failure('image.no_shell', 'This image has no shell for a terminal.')
    await this.#makeRoom()
    const plan = launcher.plan({ argv: [shell, '-i'], ...(cwd && { cwd }), env: { ...promptVariables, ...env } }, 'ignore')
    const id = randomId()
    const { scrollbackBytes, killGraceMs } = config.limits
    const launch = await launcher.place(plan)
    const terminal = new Terminal({
      id,
      title,
      launch,
      size: { cols, rows },
      user: config.user,
      unprotected,
      masters,
      scrollbackBytes,
      killGraceMs,
    })
    this.#all.set(id, terminal)
    try {
      await terminal.open()
    } catch (error) {
      this.#all.delete(id)
      throw error
    }
    return terminal
  }

  /** One that has ended makes place for another. */
  async #makeRoom(): Promise<void> {
    const { terminals } = this.#parts.config.limits
    if (this.#all.size < terminals) return
    const ended = this.list().find((terminal) => !terminal.isRunning)
    if (!ended) throw new Failure('terminal.too_many', `The sandbox has ${terminals} terminal sessions already. Close one.`)
    await this.remove(ended.id)
  }

  async remove(id: string): Promise<void> {
    const terminal = this.get(id)
    this.#all.delete(id)
    await terminal.close()
  }

  async #expire(): Promise<void> {
    const before = Date.now() - this.#parts.config.limits.terminalIdleMs
    for (const terminal of this.list()) if (terminal.idleSince < before) await this.remove(terminal.id)
  }
}

export function terminalRoutes(terminals: Terminals, { limits }: Config): { routes: Routes; upgrades: Record<string, UpgradeHandler> } {
  const pace = { heartbeatMs: limits.heartbeatMs, stallMs: limits.readerStallMs }
  const of = ({ params }: Pick<Call, 'params'>): Terminal => terminals.get(params.sid ?? '')
  const routes: Routes = {
    'GET /terminals': () => ({ sessions: terminals.list().map((terminal) => terminal.view()) }),
    'POST /terminals': async (call) => (await terminals.open(await call.json<Partial<OpenTerminal>>())).view(),
    'GET /terminals/{sid}/stream': async (call) => {
      const terminal = of(call)
      const after = cursorOf(call) ?? terminal.scrollback.beginning
      await sendEvents(call.response, terminal.scrollback, { after, isSpectator: isSpectator(call), pace }).finally(() => terminal.touch())
    },
    'PATCH /terminals/{sid}': async (call) => {
      const terminal = of(call)
      const { cols, rows } = await call.json<Size>()
      terminal.resize({ cols, rows })
      return { success: true }
    },
    'POST /terminals/{sid}/input': async (call) => {
      const terminal = of(call)
      await terminal.input(Buffer.from((await call.json<{ data: string }>()).data))
      return { success: true }
    },
    'DELETE /terminals/{sid}': async (call) => {
      const { id } = of(call)
      await terminals.remove(id)
      return { deleted: true, session_id: id }
    },
  }
  const upgrades: Record<string, UpgradeHandler> = {
    'GET /terminals/{sid}/socket': async (upgrade) => {
      const terminal = of(upgrade)
      const { serveSocket } = await import('./socket.ts')
      serveSocket(upgrade, terminal, { after: cursorOf(upgrade) ?? terminal.scrollback.beginning, pace })
    },
  }
  return { routes, upgrades }
}
