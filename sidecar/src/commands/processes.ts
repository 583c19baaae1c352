// The processes that were started through the API: running ones, and the latest that have ended.
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { Failure } from '@atoll/protocol'
import type { RunRequest } from '@atoll/protocol/sidecar'
import type { Config } from '../config.ts'
import { cursorOf, isSpectator, sendEvents } from '../event-stream.ts'
import { randomId } from '../random-id.ts'
import type { Call, Routes } from '../router.ts'
import { bodyOf } from '../server.ts'
import { EventLog } from './event-log.ts'
import type { Launcher } from './launcher.ts'
import { LogBudget } from './log-budget.ts'
import { Process } from './process.ts'

const sweepMs = 60_000

export class Processes {
  readonly #config: Config
  readonly #launcher: Launcher
  readonly #budget: LogBudget
  readonly #directory: string
  readonly #all = new Map<string, Process>()

  constructor(config: Config, launcher: Launcher) {
    this.#config = config
    this.#launcher = launcher
    this.#budget = new LogBudget(config.limits.allLogsBytes)
    this.#directory = path.join(config.state, 'processes')
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 })
    setInterval(() => this.#forget(), sweepMs).unref()
  }

  list(): Process[] {
    return [...this.#all.values()]
  }

  /** @throws Failure `process.not_found` */
  get(id: string): Process {
    const process = this.#all.get(id)
    if (!process) throw new Failure('process.not_found', `There is no process ${id} in this sandbox, or it ended long ago.`)
    return process
  }

  /** @throws Failure as `Launcher.launch` */
  async start(request: RunRequest): Promise<Process> {
    const launch = this.#launcher.plan(request, request.stdin === 'open' ? 'pipe' : 'ignore')
    const launched = await this.#launcher.launch(launch)
    const id = randomId()
    const log = new EventLog({
      directory: this.#directory,
      name: id,
      maxBytes: this.#config.limits.processLogBytes,
      budget: this.#budget,
    })
    const process = new Process({ id, launch, launched, log, timeoutMs: request.timeout_ms ?? 0, onEnd: () => this.#forget() })
    this.#all.set(id, process)
    return process
  }

  /** Kills it with its group, and forgets its output. */
  async remove(id: string): Promise<void> {
    const process = this.get(id)
    await process.kill()
    this.#drop(process)
  }

  #drop(process: Process): void {
    process.log.remove()
    this.#all.delete(process.id)
  }

  /** Forgets what ended long ago, and the oldest of what is too much; not what somebody reads just then. */
  #forget(): void {
    const { keptProcesses, keptProcessMs } = this.#config.limits
    const before = Date.now() - keptProcessMs
    const ended = this.list().filter((process) => process.endedAt !== undefined && process.log.readerCount === 0)
    ended.sort((a, b) => (a.endedAt ?? 0) - (b.endedAt ?? 0))
    const surplus = ended.length - keptProcesses
    for (const [index, process] of ended.entries()) {
      if (index < surplus || (process.endedAt ?? 0) < before) this.#drop(process)
    }
  }
}

export function processRoutes(processes: Processes, { limits }: Config): Routes {
  const of = ({ params }: Call): Process => processes.get(params.pid ?? '')
  const pace = { heartbeatMs: limits.heartbeatMs, stallMs: limits.readerStallMs }
  return {
    'POST /processes': async (call) => (await processes.start(await call.json<RunRequest>())).view(),
    'GET /processes': () => ({ processes: processes.list().map((process) => process.view()) }),
    'GET /processes/{pid}': (call) => of(call).view(),
    'GET /processes/{pid}/events': (call) =>
      sendEvents(call.response, of(call).log, { after: cursorOf(call) ?? 0, isSpectator: isSpectator(call), pace }),
    'POST /processes/{pid}/stdin': async (call) => ({
      bytes: await of(call).writeStdin(bodyOf(call.request), { close: call.query.get('close') === 'true', signal: call.signal }),
    }),
    'POST /processes/{pid}/signal': async (call) => {
      const process = of(call)
      const { signal = 'SIGTERM' } = await call.json<{ signal?: NodeJS.Signals }>()
      process.signal(signal)
      return { success: true }
    },
    'DELETE /processes/{pid}': async (call) => {
      await processes.remove(call.params.pid ?? '')
      return { deleted: true }
    },
  }
}
