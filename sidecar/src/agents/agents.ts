// Conversations with agents and their runs: one run at a time in each, several conversations at once, all of it on disk.
import path from 'node:path'
import {
  type AgentError,
  type AgentRun,
  type AgentSession,
  Failure,
  type PermissionDecision,
  type SandboxHarness,
  type StartRun,
} from '@atoll/protocol'
import type { Launcher } from '../commands/launcher.ts'
import type { Config } from '../config.ts'
import type { Environment } from '../environment.ts'
import type { FilesClient } from '../files/client.ts'
import { describe, type Log } from '../log.ts'
import { randomId } from '../random-id.ts'
import { ActiveRun, scratchOf } from './active-run.ts'
import { agentEnvironment } from './agent-environment.ts'
import type { TurnEnd } from './harness.ts'
import { agentError } from './harness-error.ts'
import { Inventory } from './inventory.ts'
import { Journal, type RunEnd } from './journal.ts'
import { Redactor } from './redactor.ts'
import type { Registry } from './registry.ts'
import { isDiskFull, RunLog } from './run-log.ts'
import { runVariable } from './run-processes.ts'
import { type RunRecord, RunStore, shortPromptLength } from './run-store.ts'
import { Run, Session } from './session.ts'

export interface AgentsParts {
  readonly config: Config
  readonly environment: Environment
  readonly launcher: Launcher
  readonly files: FilesClient
  readonly registry: Registry
  readonly log: Log
}

const titleLength = 80

const titleOf = ({ title, prompt }: Pick<StartRun, 'title' | 'prompt'>): string =>
  title || (prompt.trim().split('\n', 1)[0] ?? '').slice(0, titleLength)

export class Agents {
  readonly #parts: AgentsParts
  readonly #store: RunStore
  readonly #inventory: Inventory
  readonly #sessions = new Map<string, Session>()
  readonly #runs = new Map<string, Run>()
  /** Conversations with something to do, in the order in which it came. */
  readonly #waiting: Session[] = []
  #activeCount = 0
  /** What an earlier sidecar left waiting waits for the environment of the sandbox. */
  #isHeld = true

  constructor(parts: AgentsParts) {
    const { config, files, log } = parts
    this.#parts = parts
    this.#store = new RunStore(path.join(config.state, 'agents'), log)
    const hasFile = (name: string): Promise<boolean> => files.isThere(path.join(config.user.home, name)).catch(() => false)
    this.#inventory = new Inventory({ ...parts, hasFile })
    for (const stored of this.#store.load()) this.#adopt(stored)
  }

  #adopt({ session: record, runs }: ReturnType<RunStore['load']>[number]): void {
    const session = new Session(record)
    this.#sessions.set(record.id, session)
    for (const one of runs) {
      const run = new Run(one, this.#logOf(one))
      this.#runs.set(run.id, run)
      session.runs.push(run)
      if (one.state === 'queued') this.#enqueue(session, run)
      else if (one.state === 'finished') run.log.markEnded()
      else this.#closeLost(run)
    }
  }

  #logOf(record: RunRecord): RunLog {
    return new RunLog({
      file: this.#store.logFile(record),
      maxBytes: this.#parts.config.limits.runLogBytes,
      makeRoom: () => this.#dropOldest(record.session_id),
    })
  }

  /** A run that was under way when an earlier sidecar ended. */
  #closeLost(run: Run): void {
    this.#close(run, { outcome: 'failed', error: agentError('lost', 'The sandbox ended or was stopped in the middle of the run.') })
    const { files, log } = this.#parts
    const clean = async (): Promise<void> => {
      await files.killMarked({ variable: `${runVariable}=${run.id}`, sessions: [] })
      await files.removeDirectory(scratchOf(run.id))
    }
    clean().catch((error: unknown) => log('warn', `leftovers of the run ${run.id} could not be removed`, describe(error)))
  }

  /** Ends a run that nobody watches over, wherever its log is. */
  #close(run: Run, end: TurnEnd): void {
    const journal = new Journal(run.log, new Redactor([]))
    journal.resume()
    run.finish(journal.finish(end, run.record.started_at))
    this.#save(run)
  }

  /** A full disk is no reason to end a run: the log and the answers of this sidecar have it still. */
  #save(run: Run): void {
    try {
      this.#withRoom(run.record.session_id, () => this.#store.saveRun(run.record))
    } catch (error) {
      this.#parts.log('error', `the run ${run.id} could not be stored`, describe(error))
    }
  }

  /** Drops old conversations while the disk is full. @throws Failure `file.disk_full` */
  #withRoom(sessionId: string, write: () => void): void {
    for (;;) {
      try {
        write()
        return
      } catch (cause) {
        if (!isDiskFull(cause)) throw cause
        if (!this.#dropOldest(sessionId)) throw new Failure('file.disk_full', 'The disk of the sandbox has no room for a run.', { cause })
      }
    }
  }

  /** How many are not over. */
  get openCount(): number {
    return [...this.#runs.values()].filter(({ record }) => record.state !== 'finished').length
  }

  /** The environment of the sandbox is there. */
  configured(): void {
    this.#isHeld = false
    this.#pump()
  }

  async harnesses(): Promise<readonly SandboxHarness[]> {
    return this.#inventory.list()
  }

  runs(): readonly AgentRun[] {
    return [...this.#runs.values()].map((run) => run.view()).sort((a, b) => b.created_at - a.created_at)
  }

  sessions(): readonly AgentSession[] {
    return [...this.#sessions.values()].map((session) => session.view()).sort((a, b) => b.created_at - a.created_at)
  }

  /** @throws Failure `agent.run_not_found` */
  run(id: string): Run {
    const run = this.#runs.get(id)
    if (!run) throw new Failure('agent.run_not_found', `There is no run ${id} in this sandbox, or it was dropped to make room.`)
    return run
  }

  /** With the whole prompt. */
  describeRun(run: Run): AgentRun {
    return { ...run.view(), prompt: this.#store.promptOf(run.record) }
  }

  /** @throws Failure `agent.session_not_found` */
  session(id: string): Session {
    const session = this.#sessions.get(id)
    if (!session) throw new Failure('agent.session_not_found', `There is no conversation ${id} in this sandbox.`)
    return session
  }

  #createSession(harness: string, title: string): Session {
    const session = new Session({ id: randomId(), title, harness, native_session_id: null, created_at: Date.now() })
    this.#withRoom(session.id, () => this.#store.saveSession(session.record))
    this.#sessions.set(session.id, session)
    return session
  }

  /** @throws Failure of the inventory, when a harness is named */
  async createSession({ title, harness }: { readonly title: string; readonly harness: string }): Promise<Session> {
    const id = harness === '' ? '' : (await this.#inventory.choose(harness, {})).harness.id
    return this.#createSession(id, title)
  }

  /** @throws Failure of the inventory, `agent.session_not_found`, `agent.too_many_runs` */
  async start(request: StartRun): Promise<Run> {
    const existing = request.session_id === '' ? undefined : this.session(request.session_id)
    const named = this.#parts.registry.find(request.harness)?.id ?? request.harness
    const wanted = named || existing?.record.harness || ''
    if (existing?.record.harness && wanted !== existing.record.harness) {
      throw new Failure('request.invalid', `The conversation is with ${existing.record.harness}, and stays with it. Begin another one.`)
    }
    const { harness } = await this.#inventory.choose(wanted, request.env_json)
    const session = existing ?? this.#createSession(harness.id, titleOf(request))
    const { agentQueue } = this.#parts.config.limits
    if (session.queue.length >= agentQueue) {
      throw new Failure('agent.too_many_runs', `${agentQueue} runs wait in the conversation already.`, { retryAfterMs: 1000 })
    }
    if (session.record.harness === '') this.#update(session, { harness: harness.id, title: session.record.title || titleOf(request) })
    const run = this.#createRun(session, request)
    this.#isHeld = false
    this.#enqueue(session, run)
    this.#pump()
    return run
  }

  #update(session: Session, change: Partial<Session['record']>): void {
    Object.assign(session.record, change)
    this.#store.saveSession(session.record)
  }

  #createRun(session: Session, request: StartRun): Run {
    const isLong = request.prompt.length > shortPromptLength
    const record: RunRecord = {
      id: randomId(),
      session_id: session.id,
      kind: request.kind,
      harness: session.record.harness,
      model: request.model,
      prompt: isLong ? request.prompt.slice(0, shortPromptLength) : request.prompt,
      state: 'queued',
      // No two runs of a conversation have the same, so that it tells their order.
      created_at: Math.max(Date.now(), (session.runs.at(-1)?.record.created_at ?? 0) + 1),
      started_at: null,
      finished_at: null,
      outcome: null,
      text: null,
      error: null,
      usage: null,
      last_seq: 0,
      ...(isLong && { has_long_prompt: true }),
    }
    try {
      this.#withRoom(session.id, () => {
        this.#store.saveRequest(record, request)
        this.#store.saveRun(record)
      })
    } catch (error) {
      if (session.runs.length === 0) this.#forget(session)
      else this.#store.removeRun(record)
      throw error
    }
    const run = new Run(record, this.#logOf(record))
    this.#runs.set(run.id, run)
    session.runs.push(run)
    return run
  }

  #enqueue(session: Session, run: Run): void {
    session.queue.push(run)
    if (!this.#waiting.includes(session)) this.#waiting.push(session)
  }

  /** Starts what may start. */
  #pump(): void {
    if (this.#isHeld) return
    while (this.#activeCount < this.#parts.config.limits.agentRuns) {
      const index = this.#waiting.findIndex(({ active }) => active === undefined)
      const [session] = index === -1 ? [] : this.#waiting.splice(index, 1)
      const run = session?.queue.shift()
      if (!session || !run) return
      if (session.queue.length > 0) this.#waiting.push(session)
      this.#activeCount += 1
      session.active = run
      void this.#execute(session, run).finally(() => {
        this.#activeCount -= 1
        session.active = undefined
        this.#pump()
      })
    }
  }

  async #execute(session: Session, run: Run): Promise<void> {
    const { config } = this.#parts
    run.begin()
    this.#save(run)
    try {
      run.finish(await this.#perform(session, run))
      this.#save(run)
    } catch (thrown) {
      this.#close(run, { outcome: 'failed', error: this.#errorOf(thrown, run) })
    }
    while (this.#bytes() > config.limits.allRunsBytes && this.#dropOldest(session.id));
  }

  #errorOf(thrown: unknown, run: Run): AgentError {
    if (thrown instanceof Failure) return agentError(thrown.code === 'agent.no_credentials' ? 'auth' : 'config', thrown.message)
    this.#parts.log('error', `the run ${run.id} failed`, describe(thrown))
    return agentError('internal', 'The sidecar failed unexpectedly; its log has the reason.')
  }

  /** @throws Failure when the harness cannot be used any more */
  async #perform(session: Session, run: Run): Promise<RunEnd> {
    const request = this.#store.takeRequest(run.record)
    const found = await this.#inventory.choose(run.record.harness, request.env_json)
    const cwd = path.resolve(this.#parts.config.workspace, request.cwd)
    const environment = agentEnvironment(this.#parts, {
      cwd,
      names: found.harness.credentialEnv,
      requested: request.env_json,
      runId: run.id,
    })
    const active = new ActiveRun({
      ...this.#parts,
      id: run.id,
      request,
      cwd,
      found,
      nativeSessionId: session.record.native_session_id ?? undefined,
      environment,
      journal: new Journal(run.log, new Redactor(environment.secrets)),
      alwaysAllowed: session.alwaysAllowed,
      onLinked: (id) => {
        if (id !== session.record.native_session_id) this.#update(session, { native_session_id: id })
      },
    })
    run.attach(active)
    return active.done
  }

  /** Ends a run, and resolves when nothing is left of it. */
  async cancel(run: Run): Promise<void> {
    const session = this.session(run.record.session_id)
    const index = session.queue.indexOf(run)
    if (index === -1) return run.stop('cancel')
    session.queue.splice(index, 1)
    if (session.queue.length === 0) this.#waiting.splice(this.#waiting.indexOf(session), 1)
    this.#close(run, { outcome: 'cancelled' })
    this.#store.dropRequest(run.record)
  }

  permit(run: Run, requestId: string, decision: PermissionDecision): void {
    run.active.permit(requestId, decision)
  }

  /** @throws Failure `agent.session_not_found`, `agent.run_active` */
  removeSession(id: string): void {
    const session = this.session(id)
    if (session.isBusy) throw new Failure('agent.run_active', 'The conversation has a run that is not over. Cancel it first.')
    this.#forget(session)
  }

  #forget(session: Session): void {
    this.#sessions.delete(session.id)
    for (const run of session.runs) {
      this.#runs.delete(run.id)
      run.log.remove()
    }
    this.#store.removeSession(session.id)
  }

  #bytes(): number {
    return [...this.#sessions.keys()].reduce((sum, id) => sum + this.#store.bytesOf(id), 0)
  }

  /** Drops the conversation that was over first, but not that one. Answers whether there was one. */
  #dropOldest(kept: string): boolean {
    const over = [...this.#sessions.values()].filter((session) => session.id !== kept && !session.isBusy && session.runs.length > 0)
    over.sort((a, b) => a.touchedAt - b.touchedAt)
    const [oldest] = over
    if (oldest) this.#forget(oldest)
    return oldest !== undefined
  }

  /** Ends every run that is under way. What waits is taken up when the sandbox runs again. */
  async close(): Promise<void> {
    this.#isHeld = true
    const active = [...this.#sessions.values()].flatMap((session) => session.active ?? [])
    await Promise.all(active.map((run) => run.stop('shutdown')))
  }

  /** Every prompt of a conversation, and what followed, a JSON document a line. */
  *transcript(session: Session): Generator<string> {
    for (const run of [...session.runs]) {
      const { id, harness, model, created_at } = run.record
      const prompt = this.#store.promptOf(run.record)
      yield `${JSON.stringify({ type: 'prompt', run_id: id, session_id: session.id, at: created_at, harness, model, prompt })}\n`
      if (run.log.isRemoved) throw new Failure('agent.session_not_found', 'The conversation was removed.')
      for (const text of run.log.texts()) yield `{"run_id":"${id}",${text.slice(1)}\n`
    }
  }
}
