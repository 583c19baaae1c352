// How long a run may hear nothing, by what it waits for.
import type { AgentError } from '@atoll/protocol'
import type { HarnessEvent } from './harness.ts'
import { agentError } from './harness-error.ts'

/** Who has begun to answer, or thinks, may be silent for longer than who has said nothing yet, or falls silent in the middle of a text. */
const patienceOnceHeard = 10

/** What is waited for: the program, a first sign of the model, the rest of what it streams, or whatever a model that answers does next. */
type Expectation = 'program' | 'sign' | 'rest' | 'more'

const afterEvent: Readonly<Partial<Record<HarnessEvent['type'], Expectation | 'same'>>> = {
  'session.linked': 'sign',
  'mcp.status': 'same',
  warning: 'same',
  // It asks anew.
  retry: 'sign',
  'text.reset': 'sign',
  'text.delta': 'rest',
}

export class Patience {
  readonly #silenceMs: number
  readonly #now: () => number
  /** Calls whose arguments the model is still at, with the call that started the subagent which makes them. */
  readonly #drafts = new Map<string, string | undefined>()
  readonly #running = new Set<string>()
  #heardAt: number
  #expects: Expectation = 'program'

  /** @param silenceMs of a model that has not begun, or is in the middle of something */
  constructor(silenceMs: number, now: () => number = () => performance.now()) {
    this.#silenceMs = silenceMs
    this.#now = now
    this.#heardAt = now()
  }

  hear(): void {
    this.#heardAt = this.#now()
  }

  take(event: HarnessEvent): void {
    this.hear()
    this.#follow(event)
    const isArgument = event.type === 'tool.updated' && event.input_delta !== undefined
    const next = isArgument ? 'rest' : (afterEvent[event.type] ?? 'more')
    if (next !== 'same') this.#expects = next
  }

  /** The caller is asked about a call, so its arguments are there. */
  asked(toolId: string | undefined): void {
    if (toolId !== undefined) this.#begin(toolId)
  }

  /** Whether there was nothing for too long. `isAsking`: a person is asked, who may take their time, as may a tool that runs. */
  isOver(isAsking: boolean): boolean {
    if (isAsking || (this.#running.size > 0 && this.#drafts.size === 0)) this.hear()
    return this.#now() - this.#heardAt > this.#limitMs
  }

  /** What a silence means that took too long. */
  errorOf(label: string): AgentError {
    if (this.#expects === 'program') return agentError('timeout', `${label} was not ready within ${this.#limitMs} ms.`)
    return agentError('network', `The model was silent for ${this.#limitMs} ms.`)
  }

  get #limitMs(): number {
    const isShort = this.#expects === 'sign' || this.#expects === 'rest'
    return this.#silenceMs * (isShort ? 1 : patienceOnceHeard)
  }

  #follow(event: HarnessEvent): void {
    switch (event.type) {
      case 'tool.started':
        this.#forget(event.tool_id)
        if (event.isDraft === true) this.#drafts.set(event.tool_id, event.parent_tool_id)
        else this.#running.add(event.tool_id)
        return
      case 'tool.updated':
        if (event.isDraft === false || event.input !== undefined || event.output_delta !== undefined) this.#begin(event.tool_id)
        return
      case 'tool.finished':
        this.#forget(event.tool_id)
        return
      case 'usage':
        // The answer is complete, and so are its calls.
        for (const [id, parent] of this.#drafts) if (parent === event.parent_tool_id) this.#begin(id)
        return
      case 'retry':
        // It begins its answer anew, with other calls.
        this.#drafts.clear()
    }
  }

  #begin(toolId: string): void {
    if (this.#drafts.delete(toolId)) this.#running.add(toolId)
  }

  /** Also what a subagent had begun. */
  #forget(toolId: string): void {
    this.#running.delete(toolId)
    this.#drafts.delete(toolId)
    for (const [id, parent] of this.#drafts) if (parent === toolId) this.#drafts.delete(id)
  }
}
