// A run as clients of the reference see it: messages of parts, and events that tell how they grow.
import type { AgentEvent, AgentRun, ChatMessage, ChatPart, ChatProgress, ChatRun } from '@atoll/protocol'

/** An event of the chat stream, before it travels. */
export interface ChatNotice {
  readonly event: string
  readonly data: object
}

export interface ChatScope {
  readonly sandboxId: string
  readonly owner: string
}

type RunEvent = Exclude<AgentEvent, { type: 'gap' }>

export const userMessageId = (run: AgentRun): string => `${run.id}-user`
export const assistantMessageId = (run: AgentRun): string => `${run.id}-assistant`

const outcomes = { completed: 'completed', max_turns: 'completed', failed: 'failed', cancelled: 'cancelled' } as const

/** `lost` is a run that a restart ended, which the reference calls interrupted. */
export function statusOf(run: AgentRun): ChatRun['status'] {
  if (run.state !== 'finished') return run.state
  if (run.error?.code === 'lost') return 'interrupted'
  return run.outcome ? outcomes[run.outcome] : 'failed'
}

export function chatRunOf(run: AgentRun, { sandboxId, owner }: ChatScope): ChatRun {
  return {
    id: run.id,
    session_id: run.session_id,
    scope_id: `sandbox:${sandboxId}`,
    owner,
    kind: run.kind,
    status: statusOf(run),
    request_text: run.prompt,
    created_at: run.created_at,
    ...(run.started_at !== null && { started_at: run.started_at }),
    ...(run.finished_at !== null && { completed_at: run.finished_at }),
    ...(run.text !== null && { final_output: run.text }),
    ...(run.error && { error: run.error.message }),
  }
}

export const userMessageOf = (run: AgentRun): ChatMessage => ({
  id: userMessageId(run),
  run_id: run.id,
  role: 'user',
  content: run.prompt,
  created_at: run.created_at,
})

const progressTexts: Readonly<Partial<Record<ChatRun['status'], string>>> = {
  queued: 'Run accepted and queued by the operator.',
  running: 'Operator started the agent run.',
  completed: 'Run completed.',
  cancelling: 'Cancellation requested. Stopping the active run.',
  cancelled: 'Run cancelled by user.',
  interrupted: 'The run was interrupted.',
}
const progressOrder = ['queued', 'running', 'cancelling', 'completed', 'failed', 'cancelled', 'interrupted'] as const

/** How far a run is or was, as one line each. */
export function progressOf(run: AgentRun, status: ChatRun['status'], at: number): ChatProgress {
  const message = progressTexts[status] ?? run.error?.message ?? 'Run failed.'
  const seq = progressOrder.indexOf(status) + 1
  return { seq, run_id: run.id, status, phase: status === 'interrupted' ? 'failed' : status, message, timestamp_ms: at }
}

/** Everything that a run's end is told with. */
export function endNotices(run: AgentRun, scope: ChatScope): ChatNotice[] {
  const status = statusOf(run)
  const name = status === 'completed' || status === 'cancelled' ? `run_${status}` : 'run_failed'
  const error = status === 'cancelled' ? cancelled : status === 'completed' ? undefined : failed(run)
  const at = run.finished_at ?? run.created_at
  const requested: ChatNotice[] = [
    { event: 'run_cancel_requested', data: { ...chatRunOf(run, scope), status: 'cancelling' } },
    { event: 'run_progress', data: progressOf(run, 'cancelling', at) },
  ]
  return [
    ...(status === 'cancelled' ? requested : []),
    { event: name, data: chatRunOf(run, scope) },
    { event: 'run_progress', data: progressOf(run, status, at) },
    ...(error ? [{ event: 'session.error', data: { sessionID: run.session_id, error } }] : []),
    { event: 'session.idle', data: { sessionID: run.session_id } },
  ]
}

const cancelled = { message: 'Execution cancelled by user', code: 'EXECUTION_CANCELLED' }
const failed = (run: AgentRun) => ({ message: run.error?.message ?? 'The run failed.', code: run.error?.code ?? 'internal' })

/** What a run is told with when it begins to wait. */
export const acceptedNotices = (run: AgentRun, scope: ChatScope): ChatNotice[] => [
  { event: 'user_message', data: userMessageOf(run) },
  { event: 'message.updated', data: { info: infoOf(run, 'user', run.created_at) } },
  partNotice(run, userMessageId(run), { id: `${userMessageId(run)}-text`, type: 'text', text: run.prompt }),
  { event: 'run_queued', data: { ...chatRunOf(run, scope), status: 'queued' } },
  { event: 'run_progress', data: progressOf(run, 'queued', run.created_at) },
]

export const startedNotices = (run: AgentRun, scope: ChatScope, at: number): ChatNotice[] => [
  { event: 'run_started', data: { ...chatRunOf(run, scope), status: 'running', started_at: at } },
  { event: 'run_progress', data: progressOf(run, 'running', at) },
  { event: 'message.updated', data: { info: infoOf(run, 'assistant', at) } },
]

export function infoOf(run: AgentRun, role: 'user' | 'assistant', created: number, end?: { readonly completed: number }): object {
  const isOver = role === 'user' || end !== undefined
  const success = role === 'user' || run.outcome === 'completed' || run.outcome === 'max_turns'
  return {
    id: role === 'user' ? userMessageId(run) : assistantMessageId(run),
    role,
    sessionID: run.session_id,
    runID: run.id,
    ...(isOver && { success }),
    ...(isOver && run.error && role === 'assistant' && { error: run.error.message }),
    timestamp: created,
    time: { created, ...(isOver && { completed: end?.completed ?? created }) },
  }
}

export const partNotice = (run: AgentRun, messageId: string, part: ChatPart): ChatNotice => ({
  event: 'message.part.updated',
  data: { part: { ...part, sessionID: run.session_id, messageID: messageId } },
})

const toolStates = { ok: 'completed', error: 'error', denied: 'error', cancelled: 'error' } as const

interface ToolPart extends ChatPart {
  tool: string
  state: { status: string; input?: unknown; output?: string; error?: string; metadata?: object; time: { start: number; end?: number } }
}

/** The parts of a run's answer, which grow with its events. Parts of subagents belong to the tool call that started them. */
export class ChatParts {
  readonly #parts = new Map<string, ChatPart>()

  list(): ChatPart[] {
    return [...this.#parts.values()]
  }

  /** The part that an event makes or changes, as it is then; undefined when it concerns none. */
  apply(event: RunEvent): ChatPart | undefined {
    if (event.parent_tool_id !== undefined) return undefined
    switch (event.type) {
      case 'text.delta':
      case 'text.done':
      case 'text.reset':
        return this.#text(event.message_id, 'text', event)
      case 'reasoning.delta':
      case 'reasoning.done':
        return this.#text(event.message_id, 'reasoning', event)
      case 'tool.started':
      case 'tool.updated':
      case 'tool.finished':
        return this.#tool(event)
      default:
        return undefined
    }
  }

  #text(messageId: string, type: 'text' | 'reasoning', event: RunEvent & { readonly type: string }): ChatPart {
    const id = `${type}-${messageId}`
    const known = this.#parts.get(id)
    const before = typeof known?.['text'] === 'string' ? known['text'] : ''
    const given = 'text' in event && typeof event.text === 'string' ? event.text : ''
    const text = event.type.endsWith('.delta') ? before + given : given
    const start = timeOf(known) ?? event.at
    const time = type === 'reasoning' ? { time: { start, ...(event.type.endsWith('.done') && { end: event.at }) } } : {}
    return this.#keep({ id, type, text, ...time })
  }

  #tool(event: Extract<RunEvent, { type: 'tool.started' | 'tool.updated' | 'tool.finished' }>): ChatPart {
    const id = `tool-${event.tool_id}`
    const known = this.#parts.get(id) as ToolPart | undefined
    const part: ToolPart = known ?? { id, type: 'tool', tool: event.tool_id, state: { status: 'running', time: { start: event.at } } }
    const state = { ...part.state }
    if ('input' in event && event.input !== undefined) state.input = event.input
    if (event.type === 'tool.updated' && event.output_delta !== undefined) state.output = (state.output ?? '') + event.output_delta
    if (event.type === 'tool.finished') {
      state.status = toolStates[event.status]
      if (event.output !== undefined) state.output = event.output
      if (state.status === 'error') state.error = event.output ?? event.status
      if (event.exit_code !== undefined) state.metadata = { exit_code: event.exit_code }
      state.time = { ...state.time, end: event.at }
    }
    return this.#keep({ ...part, ...(event.type === 'tool.started' && { tool: event.name }), state })
  }

  #keep<Part extends ChatPart>(part: Part): Part {
    this.#parts.set(part.id, part)
    return part
  }
}

const timeOf = (part: ChatPart | undefined): number | undefined => {
  const time = part?.['time']
  return typeof time === 'object' && time !== null && 'start' in time && typeof time.start === 'number' ? time.start : undefined
}

/** The agent's answer as a message; undefined before the run began. */
export function assistantMessageOf(run: AgentRun, events: Iterable<AgentEvent>): ChatMessage | undefined {
  if (run.started_at === null) return undefined
  const parts = new ChatParts()
  for (const event of events) if (event.type !== 'gap') parts.apply(event)
  return {
    id: assistantMessageId(run),
    run_id: run.id,
    role: 'assistant',
    content: run.text ?? '',
    created_at: run.started_at,
    ...(run.finished_at !== null && { completed_at: run.finished_at, success: run.outcome === 'completed' || run.outcome === 'max_turns' }),
    parts: parts.list(),
    ...(run.error && { error: run.error.message }),
  }
}
