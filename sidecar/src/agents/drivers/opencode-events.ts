// Turns what opencode's server tells into events of a run.
import path from 'node:path'
import type { AgentError } from '@atoll/protocol'
import type { HarnessEvent, Turn, TurnContext } from '../harness.ts'
import { agentError, providerError } from '../harness-error.ts'
import { count, type Json, record, text } from './json.ts'
import { errorOfMessage } from './model-errors.ts'
import { toolKind } from './tool-kinds.ts'

interface OpenTool {
  readonly session: string
  readonly isSubagent: boolean
  input: string
  output: string
}

/** What the turn is to do about an event. */
export type Signal =
  | { readonly type: 'idle' }
  | { readonly type: 'failed'; readonly error: AgentError }
  | { readonly type: 'retrying'; readonly attempt: number; readonly delayMs: number; readonly message: string }
  | { readonly type: 'asked'; readonly request: Json }
  | { readonly type: 'step'; readonly reason: string }

export function errorOf(error: Json): AgentError {
  const name = text(error['name'])
  const data = record(error['data'])
  const message = text(data['message']) || name
  const status = count(data['statusCode'])
  if (status > 0) return providerError(status, message)
  if (name === 'ProviderAuthError') return agentError('auth', message)
  if (name === 'ContextOverflowError') return agentError('context', message)
  if (name === 'ProviderModelNotFoundError') return agentError('model_not_found', message)
  return errorOfMessage(message)
}

export class OpencodeEvents {
  readonly #turn: Turn
  readonly #context: TurnContext
  readonly #sessionId: string
  /** Sessions of subagents, by the call that started them. */
  readonly #subagents = new Map<string, string>()
  readonly #answers = new Set<string>()
  readonly #tools = new Map<string, OpenTool>()
  readonly #finished = new Set<string>()
  readonly #kinds = new Map<string, 'text' | 'reasoning'>()
  readonly #denied = new Set<string>()
  #lastText: string | undefined

  constructor(turn: Turn, context: TurnContext, sessionId: string) {
    this.#turn = turn
    this.#context = context
    this.#sessionId = sessionId
  }

  get lastText(): string | undefined {
    return this.#lastText
  }

  deny(toolId: string): void {
    this.#denied.add(toolId)
  }

  /** Whether an event is of this turn at all. */
  isOurs(session: string): boolean {
    return session === this.#sessionId || this.#subagents.has(session)
  }

  /** Tells an event; answers what the turn must know. */
  take({ type, properties }: { readonly type: string; readonly properties: Json }): Signal | undefined {
    const session = text(properties['sessionID'])
    if (type === 'session.created') this.#meet(record(properties['info']))
    if (!this.isOurs(session)) return undefined
    switch (type) {
      case 'message.updated':
        if (text(record(properties['info'])['role']) === 'assistant') this.#answers.add(text(record(properties['info'])['id']))
        return undefined
      case 'message.part.delta':
        this.#delta(session, properties)
        return undefined
      case 'message.part.updated':
        return this.#part(session, record(properties['part']))
      case 'permission.asked':
        return { type: 'asked', request: properties }
      default:
        return session === this.#sessionId ? ownSignal(type, properties) : undefined
    }
  }

  #emit(session: string, event: HarnessEvent): void {
    const parent = this.#subagents.get(session)
    this.#context.emit(parent === undefined ? event : { ...event, parent_tool_id: parent })
  }

  /** A session that a subagent works in. */
  #meet(info: Json): void {
    const parent = text(info['parentID'])
    if (!this.isOurs(parent)) return
    const call = [...this.#tools].findLast(([, tool]) => tool.session === parent && tool.isSubagent)?.[0]
    this.#subagents.set(text(info['id']), call ?? '')
  }

  #delta(session: string, properties: Json): void {
    const id = text(properties['partID'])
    const kind = this.#kinds.get(id)
    if (kind && properties['field'] === 'text')
      this.#emit(session, { type: `${kind}.delta`, message_id: id, text: text(properties['delta']) })
  }

  #part(session: string, part: Json): Signal | undefined {
    if (!this.#answers.has(text(part['messageID']))) return undefined
    switch (part['type']) {
      case 'text':
      case 'reasoning':
        this.#message(session, part['type'], part)
        return undefined
      case 'tool':
        this.#tool(session, part)
        return undefined
      case 'step-start':
        // The model is there, whatever it does first.
        this.#emit(session, { type: 'reasoning.delta', message_id: text(part['id']), text: '' })
        return undefined
      case 'step-finish':
        this.#usage(session, part)
        return session === this.#sessionId ? { type: 'step', reason: text(part['reason']) } : undefined
      default:
        return undefined
    }
  }

  #message(session: string, kind: 'text' | 'reasoning', part: Json): void {
    const id = text(part['id'])
    if (this.#finished.has(id)) return
    this.#kinds.set(id, kind)
    if (record(part['time'])['end'] === undefined) return
    this.#kinds.delete(id)
    this.#finished.add(id)
    const said = text(part['text'])
    if (kind === 'text' && session === this.#sessionId) this.#lastText = said
    this.#emit(session, { type: `${kind}.done`, message_id: id, text: said })
  }

  /** The answer that was begun is begun anew. */
  takeBack(): void {
    for (const [id, kind] of this.#kinds) {
      if (kind === 'text') this.#context.emit({ type: 'text.reset', message_id: id })
      this.#finished.add(id)
    }
    this.#kinds.clear()
  }

  #tool(session: string, part: Json): void {
    const id = text(part['callID'])
    if (this.#finished.has(id)) return
    const state = record(part['state'])
    const open = this.#tools.get(id) ?? this.#start(session, text(part['tool']), id)
    const input = JSON.stringify(state['input'] ?? {})
    if (input !== open.input) this.#emit(session, { type: 'tool.updated', tool_id: id, input: state['input'] })
    open.input = input
    if (state['status'] === 'running') this.#emit(session, { type: 'tool.updated', tool_id: id, isDraft: false })
    if (state['status'] === 'running') this.#output(session, id, text(record(state['metadata'])['output']))
    if (state['status'] === 'completed' || state['status'] === 'error') this.#finish(session, id, state)
  }

  #start(session: string, name: string, id: string): OpenTool {
    const kind = toolKind(name, Object.keys(this.#turn.mcpServers)) ?? 'other'
    const open = { session, isSubagent: kind === 'subagent', input: '{}', output: '' }
    this.#tools.set(id, open)
    // It shows nothing of the arguments before it has them all.
    this.#emit(session, { type: 'tool.started', tool_id: id, name, kind, isDraft: true })
    return open
  }

  #output(session: string, id: string, output: string): void {
    const open = this.#tools.get(id)
    if (!open || output === open.output) return
    const delta = output.startsWith(open.output) ? output.slice(open.output.length) : output
    open.output = output
    this.#emit(session, { type: 'tool.updated', tool_id: id, output_delta: delta })
  }

  #finish(session: string, id: string, state: Json): void {
    this.#tools.delete(id)
    this.#finished.add(id)
    const [metadata, time] = [record(state['metadata']), record(state['time'])]
    const isDone = state['status'] === 'completed'
    if (isDone) this.#changes(session, id, metadata)
    const ended = this.#context.signal.aborted ? 'cancelled' : isDone ? 'ok' : this.#denied.has(id) ? 'denied' : 'error'
    const output = isDone ? text(state['output']) : text(state['error'])
    const duration = count(time['end']) - count(time['start'])
    this.#emit(session, {
      type: 'tool.finished',
      tool_id: id,
      status: ended,
      ...(output !== '' && { output }),
      ...(Number.isInteger(metadata['exit']) && { exit_code: count(metadata['exit']) }),
      ...(duration >= 0 && { duration_ms: duration }),
    })
  }

  #changes(session: string, id: string, metadata: Json): void {
    const written = text(metadata['filepath']) || text(record(metadata['filediff'])['file'])
    if (written === '') return
    const relative = path.relative(this.#turn.cwd, written)
    const diff = text(metadata['diff'])
    this.#emit(session, {
      type: 'file.changed',
      path: relative.startsWith('..') ? written : relative,
      change: metadata['exists'] === false ? 'add' : 'modify',
      ...(diff !== '' && { diff }),
      tool_id: id,
    })
  }

  #usage(session: string, part: Json): void {
    const tokens = record(part['tokens'])
    const cache = record(tokens['cache'])
    const reasoning = count(tokens['reasoning'])
    const cost = count(part['cost'])
    this.#emit(session, {
      type: 'usage',
      scope: 'step',
      input: count(tokens['input']),
      output: count(tokens['output']) + reasoning,
      cache_read: count(cache['read']),
      cache_write: count(cache['write']),
      reasoning,
      ...(cost > 0 && { cost_usd: cost }),
    })
  }
}

function ownSignal(type: string, properties: Json): Signal | undefined {
  if (type === 'session.idle') return { type: 'idle' }
  if (type === 'session.error') {
    const error = record(properties['error'])
    return 'name' in error ? { type: 'failed', error: errorOf(error) } : undefined
  }
  const status = record(properties['status'])
  if (type !== 'session.status' || status['type'] !== 'retry') return undefined
  const delayMs = Math.max(0, count(status['next']) - Date.now())
  return { type: 'retrying', attempt: count(status['attempt']), delayMs, message: text(status['message']) }
}
