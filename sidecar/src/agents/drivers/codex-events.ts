// What Codex's app server tells of its threads, as events.
import type { AgentError, AgentErrorCode, ToolKind, Usage } from '@atoll/protocol'
import type { HarnessEvent, TurnContext } from '../harness.ts'
import { agentError, providerError } from '../harness-error.ts'
import { count, type Json, list, maybeNumber, maybeText, record, text } from './json.ts'

interface Tool {
  readonly name: string
  readonly kind: ToolKind
  readonly input?: unknown
}

/** A tool among the items of a thread; undefined for what is none. */
function toolOf(item: Json): Tool | undefined {
  switch (item['type']) {
    case 'commandExecution':
      return { name: 'shell', kind: 'shell', input: { command: item['command'], cwd: item['cwd'] } }
    case 'fileChange':
      return { name: 'apply_patch', kind: 'edit', input: { changes: item['changes'] } }
    case 'mcpToolCall':
      return { name: `${text(item['server'])}/${text(item['tool'])}`, kind: 'mcp', input: item['arguments'] }
    case 'collabAgentToolCall':
      return { name: text(item['tool']), kind: 'subagent', input: { prompt: item['prompt'] } }
    case 'dynamicToolCall':
      return { name: text(item['tool']), kind: 'other', input: item['arguments'] }
    case 'webSearch':
      return { name: 'web_search', kind: 'search', input: { query: item['query'] } }
    case 'imageView':
      return { name: 'view_image', kind: 'read', input: { path: item['path'] } }
    default:
      return undefined
  }
}

function statusOf(item: Json): 'ok' | 'error' | 'denied' {
  if (item['status'] === 'declined') return 'denied'
  const hasFailed = item['status'] === 'failed' || item['success'] === false || (maybeNumber(item['exitCode']) ?? 0) !== 0
  return hasFailed ? 'error' : 'ok'
}

function outputOf(item: Json): string | undefined {
  if (item['type'] === 'commandExecution') return maybeText(item['aggregatedOutput'])
  if (item['type'] !== 'mcpToolCall') return undefined
  const said = list(record(item['result'])['content']).map((part) => text(record(part)['text']))
  return maybeText(record(item['error'])['message']) ?? said.join('\n')
}

const changes: Readonly<Record<string, 'add' | 'modify' | 'delete'>> = { add: 'add', delete: 'delete' }

/** Cached tokens are a part of its input. */
const usageOf = (last: Json): Usage => ({
  input: Math.max(0, count(last['inputTokens']) - count(last['cachedInputTokens']) - count(last['cacheWriteInputTokens'])),
  output: count(last['outputTokens']),
  cache_read: count(last['cachedInputTokens']),
  cache_write: count(last['cacheWriteInputTokens']),
  reasoning: count(last['reasoningOutputTokens']),
})

const reasons: Readonly<Record<string, AgentErrorCode | undefined>> = {
  contextWindowExceeded: 'context',
  usageLimitExceeded: 'rate_limit',
  rateLimitExceeded: 'rate_limit',
  serverOverloaded: 'overloaded',
  modelNotFound: 'model_not_found',
  unauthorized: 'auth',
  internalServerError: 'server',
  badRequest: 'config',
}

/** Why a turn failed. */
export function codexError(error: Json): AgentError {
  const info = error['codexErrorInfo']
  const message = text(error['message']) || 'Codex failed without a reason.'
  if (/stream disconnected|error sending request|network error/i.test(message)) return agentError('network', message)
  if (typeof info === 'string') return agentError(reasons[info] ?? 'internal', message)
  const [details] = Object.values(record(info))
  if (details !== undefined) return providerError(maybeNumber(record(details)['httpStatusCode']), message)
  if (/Missing environment variable/.test(message)) return agentError('auth', message)
  return agentError('internal', message)
}

/** What the app server does not tell, Codex logs: the stream of its model. */
export const codexLog = 'error,codex_api::sse::responses=trace'
const isOfStream = (line: string): boolean => line.includes('codex_api::sse::responses')
const argumentPiece = /SSE event: .*"type":"response\.(?:function_call_arguments|custom_tool_call_input)\.delta"/
const itemEnd = /SSE event: .*"type":"response\.(?:output_item\.done|created)"/

const serverStates: Readonly<Record<string, 'connected' | 'failed' | 'pending'>> = { ready: 'connected', starting: 'pending' }

export class CodexEvents {
  readonly #context: TurnContext
  readonly #started = new Map<string, Tool>()
  /** The call that began each subagent's thread. */
  readonly #callOfThread = new Map<string, string>()
  #lastSpawn: string | undefined
  #mainThread = ''
  #turnId = ''
  #retries = 0
  /** Whether the model is at the arguments of a call. */
  #isAtArguments = false

  constructor(context: TurnContext) {
    this.#context = context
  }

  /** What is told of it is told without a parent. */
  set mainThread(id: string) {
    this.#mainThread = id
  }

  set turnId(id: string) {
    this.#turnId = id
  }

  toolAt(itemId: string): Tool | undefined {
    return this.#started.get(itemId)
  }

  #emit(event: HarnessEvent, params: Json): void {
    const thread = text(params['threadId'])
    const parent = thread === '' || thread === this.#mainThread ? undefined : (this.#callOfThread.get(thread) ?? this.#lastSpawn)
    this.#context.emit(parent === undefined ? event : { ...event, parent_tool_id: parent })
    // What was told comes another way than the log, and may be older.
    if (this.#isAtArguments) this.#tellArguments()
  }

  #tellArguments(): void {
    this.#context.emit({ type: 'text.delta', message_id: '', text: '' })
  }

  /** Takes a line of what Codex logs; false when it is not about the stream. */
  takeLog(line: string): boolean {
    if (!isOfStream(line)) return false
    if (argumentPiece.test(line)) {
      this.#isAtArguments = true
      this.#tellArguments()
    } else if (this.#isAtArguments && itemEnd.test(line)) {
      this.#isAtArguments = false
      this.#context.emit({ type: 'reasoning.delta', message_id: '', text: '' })
    }
    return true
  }

  take(method: string, params: Json): void {
    const message_id = text(params['itemId'])
    const delta = text(params['delta'])
    if (method === 'item/started') this.#begin(record(params['item']), params)
    else if (method === 'item/completed') this.#complete(record(params['item']), params)
    else if (method === 'item/agentMessage/delta') this.#emit({ type: 'text.delta', message_id, text: delta }, params)
    else if (method === 'item/reasoning/summaryTextDelta') this.#emit({ type: 'reasoning.delta', message_id, text: delta }, params)
    else if (method === 'item/commandExecution/outputDelta') {
      this.#emit({ type: 'tool.updated', tool_id: message_id, output_delta: delta }, params)
    } else if (method === 'thread/tokenUsage/updated') this.#count(params)
    else if (method === 'mcpServer/startupStatus/updated') this.#tellServer(params)
    else if (method === 'error' && params['willRetry'] === true) this.#tellRetry(params)
  }

  #begin(item: Json, params: Json): void {
    const tool = toolOf(item)
    const id = text(item['id'])
    if (item['type'] === 'reasoning') this.#emit({ type: 'reasoning.delta', message_id: id, text: '' }, params)
    if (!tool || this.#started.has(id)) return
    this.#started.set(id, tool)
    if (item['tool'] === 'spawnAgent') this.#lastSpawn = id
    this.#emit({ type: 'tool.started', tool_id: id, ...tool }, params)
  }

  #complete(item: Json, params: Json): void {
    const id = text(item['id'])
    if (item['type'] === 'agentMessage') this.#emit({ type: 'text.done', message_id: id, text: text(item['text']) }, params)
    else if (item['type'] === 'reasoning') {
      const said = list(item['summary']).map(String).join('\n')
      if (said !== '') this.#emit({ type: 'reasoning.done', message_id: id, text: said }, params)
    } else if (toolOf(item)) this.#completeTool(item, id, params)
  }

  #completeTool(item: Json, id: string, params: Json): void {
    this.#begin(item, params)
    for (const thread of list(item['receiverThreadIds'])) {
      if (!this.#callOfThread.has(String(thread))) this.#callOfThread.set(String(thread), id)
    }
    const status = statusOf(item)
    if (item['type'] === 'fileChange' && status === 'ok')
      for (const change of list(item['changes'])) this.#tellChange(record(change), id, params)
    const output = outputOf(item)
    const exitCode = maybeNumber(item['exitCode'])
    const durationMs = maybeNumber(item['durationMs'])
    this.#emit(
      {
        type: 'tool.finished',
        tool_id: id,
        status,
        ...(output !== undefined && { output }),
        ...(exitCode !== undefined && { exit_code: exitCode }),
        ...(durationMs !== undefined && { duration_ms: durationMs }),
      },
      params,
    )
  }

  #tellChange(change: Json, toolId: string, params: Json): void {
    const kind = changes[text(record(change['kind'])['type'])] ?? 'modify'
    const diff = maybeText(change['diff'])
    const file = text(change['path'])
    this.#emit({ type: 'file.changed', path: file, change: kind, tool_id: toolId, ...(diff !== undefined && { diff }) }, params)
  }

  /** A thread that goes on tells first what it took before. */
  #count(params: Json): void {
    const isOfBefore = params['threadId'] === this.#mainThread && params['turnId'] !== this.#turnId
    if (!isOfBefore) this.#emit({ type: 'usage', scope: 'step', ...usageOf(record(record(params['tokenUsage'])['last'])) }, params)
  }

  #tellServer(params: Json): void {
    const message = maybeText(params['error'])
    const status = serverStates[text(params['status'])] ?? 'failed'
    this.#emit({ type: 'mcp.status', name: text(params['name']), status, ...(message !== undefined && { message }) }, params)
  }

  #tellRetry(params: Json): void {
    this.#retries += 1
    const { message, http_status } = codexError(record(params['error']))
    this.#emit({ type: 'retry', attempt: this.#retries, message, ...(http_status !== undefined && { http_status }) }, params)
  }
}
