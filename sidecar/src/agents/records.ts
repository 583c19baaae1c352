// Conversations and runs as they can be looked at: those that go on in this sidecar, and those that lie on disk.
import { type AgentRun, type AgentSession, Failure } from '@atoll/protocol'
import { describe, type Log } from '../log.ts'
import type { TurnEnd } from './harness.ts'
import { agentError } from './harness-error.ts'
import { Journal } from './journal.ts'
import { Redactor } from './redactor.ts'
import { RunLog } from './run-log.ts'
import { type RunRecord, RunStore, type SessionRecord, type Stored } from './run-store.ts'
import { Run, Session } from './session.ts'

export interface RecordsParts {
  readonly directory: string
  /** What is kept of the events of one run. */
  readonly runLogBytes: number
  readonly log: Log
  /** What is on disk stays as it is, and nothing goes on. */
  readonly isReadOnly?: boolean
}

const lost: TurnEnd = {
  outcome: 'failed',
  error: agentError('lost', 'The sandbox ended or was stopped in the middle of the run.'),
}

/** Newest first. */
const byCreation = (a: { id: string; created_at: number }, b: { id: string; created_at: number }): number =>
  b.created_at - a.created_at || b.id.localeCompare(a.id)

export class Records {
  readonly store: RunStore
  readonly #parts: RecordsParts
  readonly #sessions = new Map<string, Session>()
  readonly #runs = new Map<string, Run>()

  constructor(parts: RecordsParts) {
    this.#parts = parts
    this.store = new RunStore(parts)
  }

  /** Takes up what an earlier sidecar left. Answers the runs that it left in the middle, which are over by that. @throws as the store */
  load(): readonly Run[] {
    return this.store.load().flatMap((stored) => this.#adopt(stored))
  }

  #adopt({ session: record, runs }: Stored): readonly Run[] {
    const session = this.add(record)
    const left: Run[] = []
    for (const one of runs) {
      const run = this.addRun(session, one)
      const isQueued = one.state === 'queued'
      if (isQueued) session.queue.push(run)
      // In a sandbox that is stopped nothing comes any more, also of what waits.
      if (one.state === 'finished' || (isQueued && this.#parts.isReadOnly)) run.log.markEnded()
      else if (!isQueued) left.push(run)
    }
    for (const run of left) this.#endLost(run)
    return left
  }

  /** It ended when it was last heard of: whoever asks, and whenever, hears the same. */
  #endLost(run: Run): void {
    const { started_at: startedAt, created_at: createdAt } = run.record
    let at = startedAt ?? createdAt
    try {
      for (const event of run.log.events()) at = event.at
      this.end(run, lost, at)
    } catch (error) {
      this.#parts.log('error', `the log of the run ${run.id} cannot be read`, describe(error))
      run.log.markEnded()
      run.finish({ outcome: lost.outcome, text: undefined, error: lost.error, usage: undefined }, at)
    }
  }

  /** Ends a run that nobody watches over, wherever its log is. */
  end(run: Run, end: TurnEnd, at: number = Date.now()): void {
    const journal = new Journal(run.log, new Redactor([]), () => at)
    journal.resume()
    run.finish(journal.finish(end, run.record.started_at), at)
    // The log may have had its end before.
    run.log.end()
  }

  add(record: SessionRecord): Session {
    const session = new Session(record)
    this.#sessions.set(record.id, session)
    return session
  }

  addRun(session: Session, record: RunRecord): Run {
    const log = new RunLog({
      file: this.store.logFile(record),
      maxBytes: this.#parts.runLogBytes,
      makeRoom: () => this.dropOldest(session.id),
      isReadOnly: this.#parts.isReadOnly ?? false,
    })
    const run = new Run(record, log)
    this.#runs.set(run.id, run)
    session.runs.push(run)
    return run
  }

  forget(session: Session): void {
    this.#sessions.delete(session.id)
    for (const run of session.runs) {
      this.#runs.delete(run.id)
      run.log.remove()
    }
    this.store.removeSession(session.id)
  }

  /** Drops the conversation that was over first, but not that one. Answers whether there was one. */
  dropOldest(kept: string): boolean {
    const over = [...this.#sessions.values()].filter((session) => session.id !== kept && !session.isBusy && session.runs.length > 0)
    over.sort((a, b) => a.touchedAt - b.touchedAt)
    const [oldest] = over
    if (oldest) this.forget(oldest)
    return oldest !== undefined
  }

  /** What all of them take on disk. */
  get bytes(): number {
    return [...this.#sessions.keys()].reduce((sum, id) => sum + this.store.bytesOf(id), 0)
  }

  /** How many runs are not over. */
  get openCount(): number {
    return [...this.#runs.values()].filter(({ record }) => record.state !== 'finished').length
  }

  get all(): readonly Session[] {
    return [...this.#sessions.values()]
  }

  runs(): readonly AgentRun[] {
    return [...this.#runs.values()].map((run) => run.view()).sort(byCreation)
  }

  sessions(): readonly AgentSession[] {
    return [...this.#sessions.values()].map((session) => session.view()).sort(byCreation)
  }

  /** @throws Failure `agent.run_not_found` */
  run(id: string): Run {
    const run = this.#runs.get(id)
    if (!run) throw new Failure('agent.run_not_found', `There is no run ${id} in this sandbox, or it was dropped to make room.`)
    return run
  }

  /** With the whole prompt. */
  describeRun(run: Run): AgentRun {
    return { ...run.view(), prompt: this.store.promptOf(run.record) }
  }

  /** @throws Failure `agent.session_not_found` */
  session(id: string): Session {
    const session = this.#sessions.get(id)
    if (!session) throw new Failure('agent.session_not_found', `There is no conversation ${id} in this sandbox.`)
    return session
  }

  /** Every prompt of a conversation, and what followed, a JSON document a line. */
  *transcript(session: Session): Generator<string> {
    for (const run of [...session.runs]) {
      const { id, harness, model, created_at } = run.record
      const prompt = this.store.promptOf(run.record)
      yield `${JSON.stringify({ type: 'prompt', run_id: id, session_id: session.id, at: created_at, harness, model, prompt })}\n`
      if (run.log.isRemoved) throw new Failure('agent.session_not_found', 'The conversation was removed.')
      for (const text of run.log.texts()) yield `{"run_id":"${id}",${text.slice(1)}\n`
    }
  }
}
