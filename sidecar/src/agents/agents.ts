// Conversations with agents and their runs: one run at a time in each, several conversations at once, all of it on disk.
import path from 'node:path'
import { type AgentError, Failure, type PermissionDecision, type SandboxHarness, type StartRun } from '@atoll/protocol'
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
import type { Records } from './records.ts'
import { Redactor } from './redactor.ts'
import type { Registry } from './registry.ts'
import { isDiskFull } from './run-log.ts'
import { runVariable } from './run-processes.ts'
import { type RunRecord, type RunStore, shortPromptLength } from './run-store.ts'
import type { Run, Session } from './session.ts'

export interface AgentsParts {
  readonly config: Config
  readonly environment: Environment
  readonly launcher: Launcher
  readonly files: FilesClient
  readonly registry: Registry
  readonly records: Records
  /** Runs that an earlier sidecar left in the middle. */
  readonly left: readonly Run[]
  readonly log: Log
}

const titleLength = 80

const titleOf = ({ title, prompt }: Pick<StartRun, 'title' | 'prompt'>): string =>
  title || (prompt.trim().split('\n', 1)[0] ?? '').slice(0, titleLength)

export class Agents {
  readonly #parts: AgentsParts
  readonly #records: Records
  readonly #store: RunStore
  readonly #inventory: Inventory
  /** Conversations with something to do, in the order in which it came. */
  readonly #waiting: Session[] = []
  #activeCount = 0
  /** What an earlier sidecar left waiting waits for the environment of the sandbox. */
  #isHeld = true

  constructor(parts: AgentsParts) {
    const { config, files, records } = parts
    this.#parts = parts
    this.#records = records
    this.#store = records.store
    const hasFile = (name: string): Promise<boolean> => files.isThere(path.join(config.user.home, name)).catch(() => false)
    this.#inventory = new Inventory({ ...parts, hasFile })
    for (const run of parts.left) this.#cleanUp(run)
    for (const session of records.all) if (session.queue.length > 0) this.#waiting.push(session)
  }

  /** After a run that was under way when an earlier sidecar ended. */
  #cleanUp(run: Run): void {
    this.#save(run)
    const { files, log } = this.#parts
    const clean = async (): Promise<void> => {
      await files.killMarked({ variable: `${runVariable}=${run.id}`, sessions: [] })
      await files.removeDirectory(scratchOf(run.id))
    }
    clean().catch((error: unknown) => log('warn', `leftovers of the run ${run.id} could not be removed`, describe(error)))
  }

  #close(run: Run, end: TurnEnd): void {
    this.#records.end(run, end)
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
        if (!this.#records.dropOldest(sessionId))
          throw new Failure('file.disk_full', 'The disk of the sandbox has no room for a run.', { cause })
      }
    }
  }

  /** The environment of the sandbox is there. */
  configured(): void {
    this.#isHeld = false
    this.#pump()
  }

  async harnesses(): Promise<readonly SandboxHarness[]> {
    return this.#inventory.list()
  }

  #createSession(harness: string, title: string): Session {
    const record = { id: randomId(), title, harness, native_session_id: null, created_at: Date.now() }
    this.#withRoom(record.id, () => this.#store.saveSession(record))
    return this.#records.add(record)
  }

  /** @throws Failure of the inventory, when a harness is named */
  async createSession({ title, harness }: { readonly title: string; readonly harness: string }): Promise<Session> {
    const id = harness === '' ? '' : (await this.#inventory.choose(harness, {})).harness.id
    return this.#createSession(id, title)
  }

  /** @throws Failure of the inventory, `agent.session_not_found`, `agent.too_many_runs` */
  async start(request: StartRun): Promise<Run> {
    const existing = request.session_id === '' ? undefined : this.#records.session(request.session_id)
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
      if (session.runs.length === 0) this.#records.forget(session)
      else this.#store.removeRun(record)
      throw error
    }
    return this.#records.addRun(session, record)
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
    while (this.#records.bytes > config.limits.allRunsBytes && this.#records.dropOldest(session.id));
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
    const session = this.#records.session(run.record.session_id)
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
    const session = this.#records.session(id)
    if (session.isBusy) throw new Failure('agent.run_active', 'The conversation has a run that is not over. Cancel it first.')
    this.#records.forget(session)
  }

  /** Ends every run that is under way. What waits is taken up when the sandbox runs again. */
  async close(): Promise<void> {
    this.#isHeld = true
    const active = this.#records.all.flatMap((session) => session.active ?? [])
    await Promise.all(active.map((run) => run.stop('shutdown')))
  }
}
