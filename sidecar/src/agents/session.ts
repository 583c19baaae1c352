// A conversation and its runs, as they are while the sidecar lives.
import { type AgentRun, type AgentSession, Failure } from '@atoll/protocol'
import type { ActiveRun, StopReason } from './active-run.ts'
import type { RunEnd } from './journal.ts'
import type { RunLog } from './run-log.ts'
import type { RunRecord, SessionRecord } from './run-store.ts'

export class Run {
  readonly record: RunRecord
  readonly log: RunLog
  readonly #over = Promise.withResolvers<void>()
  #active: ActiveRun | undefined
  #stopReason: StopReason | undefined

  constructor(record: RunRecord, log: RunLog) {
    this.record = record
    this.log = log
  }

  get id(): string {
    return this.record.id
  }

  view(): AgentRun {
    const { has_long_prompt: _, ...view } = this.record
    return { ...view, last_seq: Math.max(view.last_seq, this.log.last) }
  }

  begin(): void {
    this.record.state = 'running'
    this.record.started_at = Date.now()
  }

  attach(active: ActiveRun): void {
    this.#active = active
    if (this.#stopReason) active.stop(this.#stopReason)
  }

  /** @throws Failure `agent.run_not_active` */
  get active(): ActiveRun {
    if (this.#active && this.record.state !== 'finished') return this.#active
    throw new Failure('agent.run_not_active', `The run ${this.id} is over, or has not begun.`)
  }

  /** Stops it if it is under way, and resolves when nothing is left of it. */
  async stop(reason: StopReason): Promise<void> {
    if (this.record.state === 'finished') return
    this.record.state = 'cancelling'
    this.#stopReason ??= reason
    this.#active?.stop(reason)
    await this.#over.promise
  }

  /** @param at in unix milliseconds */
  finish({ outcome, text, error, usage }: RunEnd, at: number = Date.now()): void {
    Object.assign(this.record, {
      state: 'finished',
      finished_at: at,
      outcome,
      text: text ?? null,
      error: error ?? null,
      usage: usage ?? null,
      last_seq: this.log.last,
    } satisfies Partial<RunRecord>)
    this.#active = undefined
    this.#over.resolve()
  }
}

export class Session {
  readonly record: SessionRecord
  readonly runs: Run[] = []
  readonly queue: Run[] = []
  readonly alwaysAllowed = new Set<string>()
  active: Run | undefined

  constructor(record: SessionRecord) {
    this.record = record
  }

  get id(): string {
    return this.record.id
  }

  get isBusy(): boolean {
    return this.active !== undefined || this.queue.length > 0
  }

  /** When something happened in it last. */
  get touchedAt(): number {
    const last = this.runs.at(-1)?.record
    return last?.finished_at ?? last?.created_at ?? this.record.created_at
  }

  view(): AgentSession {
    return {
      ...this.record,
      active_run_id: (this.active ?? this.queue[0])?.id ?? null,
      run_ids: this.runs.map(({ id }) => id),
    }
  }
}
