// The processes of one run: started as the user, marked in their environment, and gone when the run is over.
import { PassThrough, type Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '@atoll/protocol'
import type { Child } from '../commands/child.ts'
import { isChild, type Launcher } from '../commands/launcher.ts'
import type { KilledProcesses, ProcessMark } from '../files/marked-processes.ts'
import { describe, type Log } from '../log.ts'
import type { HarnessProcess, Spawning } from './harness.ts'

/** For a program to end by itself after its turn is over. */
const partingMs = 500
const goneMs = 3000
const pollMs = 30

export interface RunProcessesParts {
  readonly launcher: Launcher
  readonly killMarked: (mark: ProcessMark) => Promise<KilledProcesses>
  readonly runId: string
  readonly cwd: string
  readonly variables: Readonly<Record<string, string>>
  /** Called whenever a process says something. */
  readonly onOutput: () => void
  readonly log: Log
}

export const runVariable = 'ATOLL_RUN_ID'

/** A stream whose every chunk is noticed. It ends with its source, however that ends. */
function noticed(source: Readable, onOutput: () => void): Readable {
  const through = new PassThrough()
  source.on('data', onOutput)
  source.on('error', () => through.end())
  source.pipe(through)
  return through
}

export class RunProcesses {
  readonly #parts: RunProcessesParts
  readonly #children: Child[] = []
  #isClosed = false
  #startedAt: number | undefined

  constructor(parts: RunProcessesParts) {
    this.#parts = parts
  }

  /** When the first of them was started, in unix milliseconds. */
  get startedAt(): number | undefined {
    return this.#startedAt
  }

  /** @throws Failure `process.spawn_failed` and others of the launcher */
  async spawn({ argv, env = {}, cwd = this.#parts.cwd }: Spawning): Promise<HarnessProcess> {
    if (this.#isClosed) throw new Failure('agent.run_not_active', 'The run is over.')
    const given: Record<string, string | undefined> = { ...this.#parts.variables, PWD: cwd, ...env }
    const variables = Object.fromEntries(Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])))
    const launched = await this.#parts.launcher.launch({ argv, cwd, env: variables, stdin: 'pipe' })
    if (!isChild(launched)) throw new Failure('process.spawn_failed', launched.message.trim())
    this.#children.push(launched)
    this.#startedAt ??= Date.now()
    if (this.#isClosed) {
      launched.signal('SIGKILL')
      throw new Failure('agent.run_not_active', 'The run is over.')
    }
    const { pid, stdin, stdout, stderr, exit } = launched
    if (!stdin) throw new Error('A harness was started without a standard input.')
    // A program may close its input before it has read all of it.
    stdin.on('error', () => stdin.destroy())
    stderr.on('error', () => stderr.destroy())
    return { pid, stdin, stdout: noticed(stdout, this.#parts.onOutput), stderr, exit, signal: (signal) => launched.signal(signal) }
  }

  async #part(): Promise<void> {
    const living = this.#children.filter(({ isAlive }) => isAlive)
    if (living.length === 0) return
    for (const child of living) child.signal('SIGTERM')
    await Promise.race([Promise.all(living.map(({ exit }) => exit)), delay(partingMs)])
  }

  /**
   * Ends all of them, also those that left their group, and resolves when they are gone; with `sparesDetached` those live on that began
   * a session of their own, as commands in the background of a tool do. Answers how many.
   */
  async end({ isUrgent, sparesDetached }: { readonly isUrgent: boolean; readonly sparesDetached: boolean }): Promise<number> {
    this.#isClosed = true
    if (!isUrgent) await this.#part()
    for (const child of this.#children) if (child.isAlive) child.signal('SIGKILL')
    const { runId, killMarked, log } = this.#parts
    const mark = { variable: `${runVariable}=${runId}`, sessions: this.#children.map(({ pid }) => pid), sparesDetached }
    const deadline = performance.now() + goneMs
    let left: KilledProcesses = { killed: 0, spared: 0 }
    try {
      for (left = await killMarked(mark); left.killed > 0; left = await killMarked(mark)) {
        if (performance.now() > deadline) {
          log('error', `processes of the run ${runId} cannot be killed`)
          break
        }
        await delay(pollMs)
      }
    } catch (error) {
      log('error', `processes of the run ${runId} could not be looked for`, describe(error))
    }
    for (const { stdout, stderr } of this.#children) {
      stdout.destroy()
      stderr.destroy()
    }
    return left.spared
  }
}
