// What a run tells, in order and complete: every event gets its number, and what was begun is ended before the run is.
import type { AgentError, RunOutcome, Usage } from '@atoll/protocol'
import { bounded, type RunEvent } from './event-bounds.ts'
import type { TurnEnd } from './harness.ts'
import type { Redactor } from './redactor.ts'
import type { LoggedEvent, RunLog } from './run-log.ts'

const noUsage: Usage = { input: 0, output: 0, cache_read: 0, cache_write: 0, reasoning: 0 }

function sum(a: Usage, b: Usage): Usage {
  const cost = a.cost_usd === undefined && b.cost_usd === undefined ? undefined : (a.cost_usd ?? 0) + (b.cost_usd ?? 0)
  return {
    input: a.input + b.input,
    output: a.output + b.output,
    cache_read: a.cache_read + b.cache_read,
    cache_write: a.cache_write + b.cache_write,
    reasoning: a.reasoning + b.reasoning,
    ...(cost !== undefined && { cost_usd: cost }),
  }
}

const usageOf = ({ input, output, cache_read, cache_write, reasoning, cost_usd }: Usage): Usage => ({
  input,
  output,
  cache_read,
  cache_write,
  reasoning,
  ...(cost_usd !== undefined && { cost_usd }),
})

/** How a run ended. */
export interface RunEnd {
  readonly outcome: RunOutcome
  readonly text: string | undefined
  readonly error: AgentError | undefined
  readonly usage: Usage | undefined
}

interface OpenTool {
  readonly startedAt: number
  readonly parentId: string | undefined
}

export class Journal {
  readonly #log: RunLog
  readonly #redactor: Redactor
  readonly #now: () => number
  readonly #tools = new Map<string, OpenTool>()
  readonly #questions = new Set<string>()
  #steps: Usage | undefined
  #whole: Usage | undefined
  #lastText: string | undefined
  #end: RunEnd | undefined

  constructor(log: RunLog, redactor: Redactor, now: () => number = Date.now) {
    this.#log = log
    this.#redactor = redactor
    this.#now = now
  }

  /** How it ended; undefined while it has not. */
  get end(): RunEnd | undefined {
    return this.#end
  }

  /** Takes up a log where an earlier sidecar left it. */
  resume(): void {
    for (const event of this.#log.events()) {
      this.#note(event)
      if (event.type === 'run.finished') {
        this.#end = { outcome: event.outcome, text: event.text, error: event.error, usage: this.#whole }
      }
    }
  }

  /** Tells an event of the harness. What it says after the end, or of tools that are not under way, is not told. */
  tell(event: RunEvent): void {
    if (this.#end) return
    if (event.type === 'usage' && event.scope === 'run') {
      this.#whole = usageOf(event)
      return
    }
    if (event.type === 'tool.started' && this.#tools.has(event.tool_id)) return
    if ((event.type === 'tool.updated' || event.type === 'tool.finished') && !this.#tools.has(event.tool_id)) return
    const told = this.#withoutSecrets(bounded(event))
    if (told) this.#add(told)
  }

  /** What ends a text that came in pieces has all of it, so that what was held back is not missed. */
  #endPieces(event: RunEvent): void {
    if (event.type === 'text.done' || event.type === 'text.reset') this.#redactor.forget(`text.delta ${event.message_id}`)
    else if (event.type === 'reasoning.done') this.#redactor.forget(`reasoning.delta ${event.message_id}`)
    else if (event.type === 'tool.finished') for (const part of ['input', 'output']) this.#redactor.forget(`${part} ${event.tool_id}`)
  }

  /** Undefined while all of a piece is held back. */
  #withoutSecrets(event: RunEvent): RunEvent | undefined {
    if (event.type === 'text.delta' || event.type === 'reasoning.delta') {
      const text = this.#redactor.piece(`${event.type} ${event.message_id}`, event.text)
      return text === '' ? undefined : { ...event, text }
    }
    if (event.type === 'tool.updated' && event.output_delta !== undefined) {
      const delta = this.#redactor.piece(`output ${event.tool_id}`, event.output_delta)
      return delta === '' ? undefined : { ...event, output_delta: delta }
    }
    if (event.type === 'tool.updated' && event.input_delta !== undefined) {
      const delta = this.#redactor.piece(`input ${event.tool_id}`, event.input_delta)
      return delta === '' ? undefined : { ...event, input_delta: delta }
    }
    this.#endPieces(event)
    return Object.assign({}, event, this.#redactor.value(event))
  }

  #add(event: RunEvent): void {
    const numbered = this.#numbered(event)
    this.#note(numbered)
    this.#log.append(numbered)
  }

  #numbered(event: RunEvent): LoggedEvent {
    const timed = event.type === 'tool.finished' && event.duration_ms === undefined ? this.#timed(event) : event
    return Object.assign({ seq: this.#log.last + 1, at: this.#now() }, timed)
  }

  #timed(event: Extract<RunEvent, { type: 'tool.finished' }>): RunEvent {
    const startedAt = this.#tools.get(event.tool_id)?.startedAt
    return startedAt === undefined ? event : { ...event, duration_ms: this.#now() - startedAt }
  }

  #note(event: LoggedEvent): void {
    if (event.type === 'tool.started') this.#tools.set(event.tool_id, { startedAt: event.at, parentId: event.parent_tool_id })
    else if (event.type === 'tool.finished') this.#tools.delete(event.tool_id)
    else if (event.type === 'permission.requested') this.#questions.add(event.request_id)
    else if (event.type === 'permission.resolved') this.#questions.delete(event.request_id)
    else if (event.type === 'text.done' && event.parent_tool_id === undefined) this.#lastText = event.text
    else if (event.type === 'usage' && event.scope === 'step') this.#steps = sum(this.#steps ?? noUsage, usageOf(event))
    else if (event.type === 'usage') this.#whole = usageOf(event)
  }

  /** Ends the run: once, last, and after everything that it had begun. */
  finish(end: TurnEnd, startedAt: number | null, programStartedAt?: number): RunEnd {
    if (this.#end) return this.#end
    for (const id of [...this.#questions]) this.#add({ type: 'permission.resolved', request_id: id, decision: 'reject', by: 'cancel' })
    for (const [id, { parentId }] of [...this.#tools]) {
      this.#add({ type: 'tool.finished', tool_id: id, status: 'cancelled', ...(parentId !== undefined && { parent_tool_id: parentId }) })
    }
    const usage = this.#whole ?? this.#steps
    if (usage) this.#add({ type: 'usage', scope: 'run', ...usage })
    const text = end.text === undefined ? this.#lastText : this.#redactor.text(end.text)
    const error = end.error && { ...end.error, message: this.#redactor.text(end.error.message) }
    this.#add({
      type: 'run.finished',
      outcome: end.outcome,
      ...(text !== undefined && { text }),
      ...(end.stopReason !== undefined && { stop_reason: end.stopReason }),
      ...(error && { error }),
      duration_ms: startedAt === null ? 0 : this.#now() - startedAt,
      ...(programStartedAt !== undefined && { program_started_at: programStartedAt }),
    })
    this.#end = { outcome: end.outcome, text, error, usage }
    this.#log.end()
    return this.#end
  }
}
