// A run under way: one turn of a harness, watched over from its beginning to its only end.
import { setTimeout as delay } from 'node:timers/promises'
import { type AgentError, Failure, type PermissionDecision, type StartRun } from '@atoll/protocol'
import type { Launcher } from '../commands/launcher.ts'
import type { Config } from '../config.ts'
import type { FilesClient } from '../files/client.ts'
import { describe, type Log } from '../log.ts'
import { randomId } from '../random-id.ts'
import type { AgentEnvironment } from './agent-environment.ts'
import type { RunEvent } from './event-bounds.ts'
import type { HarnessEvent, PermissionRequest, Turn, TurnContext, TurnEnd } from './harness.ts'
import { agentError } from './harness-error.ts'
import type { Found } from './inventory.ts'
import type { Journal, RunEnd } from './journal.ts'
import { Patience } from './patience.ts'
import { RunProcesses, runVariable } from './run-processes.ts'
import { WorkspaceChanges } from './workspace-changes.ts'

const defaultTimeoutMs = 30 * 60_000
const watchMs = 250
/** A run may say for itself how long its model may be silent. */
const silenceVariable = 'ATOLL_MODEL_SILENCE_MS'

/** A directory of the user's for one run. */
export const scratchOf = (runId: string): string => `/tmp/atoll-run-${runId}`

export type StopReason = 'cancel' | 'timeout' | 'silence' | 'shutdown'

export interface ActiveRunParts {
  readonly id: string
  readonly request: StartRun
  readonly cwd: string
  readonly found: Found
  readonly nativeSessionId: string | undefined
  readonly environment: AgentEnvironment
  readonly journal: Journal
  /** Tools that the caller always allows in this conversation. */
  readonly alwaysAllowed: Set<string>
  readonly onLinked: (nativeSessionId: string) => void
  readonly config: Config
  readonly launcher: Launcher
  readonly files: FilesClient
  readonly log: Log
}

interface Question {
  readonly name: string
  readonly answer: (decision: PermissionDecision) => void
}

function turnOf({ request, cwd, nativeSessionId }: ActiveRunParts): Turn {
  return {
    prompt: request.prompt,
    nativeSessionId,
    model: request.model,
    systemPrompt: request.system_prompt,
    maxTurns: request.max_turns,
    cwd,
    permissionMode: request.permission_mode,
    mcpServers: request.mcp_servers,
    skills: request.skills,
    subagents: request.subagents,
  }
}

/** What an event tells the caller; undefined when it only says what the model is at. */
function saidBy(event: HarnessEvent): RunEvent | undefined {
  if ('text' in event && event.text === '' && event.type.endsWith('.delta')) return undefined
  if (event.type !== 'tool.started' && event.type !== 'tool.updated') return event
  const { isDraft: _, ...told } = event
  const isEmpty = told.type === 'tool.updated' && !told.input_delta && told.input === undefined && told.output_delta === undefined
  return isEmpty ? undefined : told
}

export class ActiveRun {
  readonly done: Promise<RunEnd>
  readonly #parts: ActiveRunParts
  readonly #startedAt = Date.now()
  readonly #stopping = new AbortController()
  readonly #questions = new Map<string, Question>()
  readonly #processes: RunProcesses
  readonly #changes: WorkspaceChanges
  readonly #scratch: string
  readonly #patience: Patience
  #silence: AgentError | undefined
  #stopReason: StopReason | undefined

  constructor(parts: ActiveRunParts) {
    const { id, cwd, config, files, launcher, journal, log } = parts
    this.#parts = parts
    this.#scratch = scratchOf(id)
    const own = Number(parts.environment.variables[silenceVariable])
    this.#patience = new Patience(Number.isFinite(own) && own > 0 ? own : config.limits.modelSilenceMs)
    this.#processes = new RunProcesses({
      launcher,
      killMarked: (mark) => files.killMarked(mark),
      runId: id,
      cwd,
      variables: this.#variables,
      onOutput: () => this.#patience.hear(),
      log,
    })
    this.#changes = new WorkspaceChanges({
      workspace: config.workspace,
      cwd,
      snapshot: (directory) => files.snapshot(directory),
      tell: (event) => journal.tell(event),
    })
    this.done = this.#run()
  }

  get #variables(): Readonly<Record<string, string>> {
    return { ...this.#parts.environment.variables, [runVariable]: this.#parts.id, TMPDIR: this.#scratch }
  }

  get isStopping(): boolean {
    return this.#stopping.signal.aborted
  }

  /** Begins the end; `done` says when there is nothing left of it. */
  stop(reason: StopReason): void {
    if (this.isStopping) return
    this.#stopReason = reason
    this.#stopping.abort()
    for (const id of [...this.#questions.keys()]) this.#resolve(id, 'reject', reason === 'timeout' ? 'timeout' : 'cancel')
  }

  /** Answers a question. @throws Failure `agent.permission_not_found` */
  permit(requestId: string, decision: PermissionDecision): void {
    const question = this.#questions.get(requestId)
    if (!question) throw new Failure('agent.permission_not_found', `The run asks no question ${requestId}, or it was answered.`)
    if (decision === 'allow_always') this.#parts.alwaysAllowed.add(question.name)
    this.#resolve(requestId, decision, 'caller')
  }

  #resolve(requestId: string, decision: PermissionDecision, by: 'caller' | 'timeout' | 'cancel'): void {
    const question = this.#questions.get(requestId)
    this.#questions.delete(requestId)
    this.#parts.journal.tell({ type: 'permission.resolved', request_id: requestId, decision, by })
    question?.answer(decision)
  }

  async #run(): Promise<RunEnd> {
    const { found, request, cwd, journal, log, id } = this.#parts
    const timeout = setTimeout(() => this.stop('timeout'), request.timeout_ms || defaultTimeoutMs)
    const watch = setInterval(() => this.#watch(), watchMs)
    journal.tell({
      type: 'run.started',
      harness: found.harness.id,
      ...(found.version !== undefined && { version: found.version }),
      ...(request.model !== '' && { model: request.model }),
      cwd,
    })
    try {
      const end = await this.#turn()
      // What a tool left in the background on purpose, such as a server, outlives a turn that went well.
      const sparesDetached = !this.isStopping && end?.outcome === 'completed'
      const spared = await this.#processes.end({ isUrgent: this.isStopping, sparesDetached })
      await this.#changes.settle()
      await this.#clearScratch(spared > 0).catch((error: unknown) => log('warn', `leftovers of run ${id}`, describe(error)))
      return journal.finish(this.#judge(end), this.#startedAt, this.#processes.startedAt)
    } finally {
      clearTimeout(timeout)
      clearInterval(watch)
    }
  }

  /** A process that lives on has it for its TMPDIR. */
  async #clearScratch(isKept: boolean): Promise<void> {
    const { files } = this.#parts
    await files.removeDirectory(this.#scratch)
    if (isKept) await files.makeDirectory(this.#scratch, '700')
  }

  /** The turn's own end; undefined when it did not end in time after it was stopped. */
  async #turn(): Promise<TurnEnd | undefined> {
    const { files, found, config } = this.#parts
    const turn = async (): Promise<TurnEnd> => {
      await Promise.all([files.makeDirectory(this.#scratch, '700'), this.#changes.begin()])
      this.#patience.hear()
      return found.harness.turn(turnOf(this.#parts), this.#context())
    }
    const { promise: overdue, resolve } = Promise.withResolvers<undefined>()
    const isOver = new AbortController()
    this.#stopping.signal.addEventListener('abort', () => {
      const graceMs = this.#stopReason === 'shutdown' ? 0 : config.limits.killGraceMs
      void delay(graceMs, undefined, { signal: isOver.signal }).then(
        () => resolve(undefined),
        () => undefined,
      )
    })
    try {
      return await Promise.race([turn().catch((thrown: unknown) => this.#broken(thrown)), overdue])
    } finally {
      isOver.abort()
    }
  }

  /** A harness that throws has failed like one that says so. */
  #broken(thrown: unknown): TurnEnd {
    const { log, id, found } = this.#parts
    if (thrown instanceof Failure) return { outcome: 'failed', error: agentError('config', thrown.message) }
    log('error', `the harness ${found.harness.id} threw in run ${id}`, describe(thrown))
    return { outcome: 'failed', error: agentError('internal', `The harness ${found.harness.label} failed unexpectedly.`) }
  }

  /** What counts of a turn that was stopped is why, unless it was complete before. */
  #judge(end: TurnEnd | undefined): TurnEnd {
    if (end && (!this.isStopping || end.outcome === 'completed')) return end
    const text = end?.text
    const failed = (error: TurnEnd['error']): TurnEnd => ({ outcome: 'failed', text, error })
    switch (this.#stopReason) {
      case 'timeout':
        return failed(agentError('timeout', `The run was not over in ${this.#parts.request.timeout_ms || defaultTimeoutMs} ms.`))
      case 'silence':
        return failed(this.#silence)
      case 'shutdown':
        return failed(agentError('lost', 'The sandbox was stopped.'))
      default:
        return { outcome: 'cancelled', text }
    }
  }

  #watch(): void {
    if (this.isStopping || !this.#patience.isOver(this.#questions.size > 0)) return
    this.#silence = this.#patience.errorOf(this.#parts.found.harness.label)
    this.stop('silence')
  }

  #context(): TurnContext {
    const { config, files } = this.#parts
    return {
      signal: this.#stopping.signal,
      home: config.user.home,
      scratch: this.#scratch,
      env: this.#variables,
      emit: (event) => this.#emit(event),
      ask: (request) => this.#ask(request),
      spawn: (spawning) => this.#processes.spawn(spawning),
      writeFile: (file, content) => files.writePrivateFile(file, content),
      readFile: async (file) => (await files.readFile(file))?.toString('utf8'),
    }
  }

  #emit(event: HarnessEvent): void {
    this.#patience.take(event)
    const told = saidBy(event)
    if (!told) return
    if (told.type === 'session.linked') this.#parts.onLinked(told.native_session_id)
    const shown = told.type === 'file.changed' ? { ...told, path: this.#changes.shown(told.path) } : told
    this.#parts.journal.tell(shown)
    this.#changes.notice(shown)
  }

  #ask({ toolId, name, kind, input, options = ['allow_once', 'allow_always', 'reject'] }: PermissionRequest): Promise<PermissionDecision> {
    if (this.isStopping) return Promise.resolve('reject')
    if (this.#parts.alwaysAllowed.has(name)) return Promise.resolve('allow_once')
    const id = randomId()
    this.#patience.asked(toolId)
    return new Promise((resolve) => {
      this.#questions.set(id, { name, answer: resolve })
      this.#parts.journal.tell({
        type: 'permission.requested',
        request_id: id,
        ...(toolId !== undefined && { tool_id: toolId }),
        name,
        kind,
        ...(input !== undefined && { input }),
        options: [...options],
      })
    })
  }
}
