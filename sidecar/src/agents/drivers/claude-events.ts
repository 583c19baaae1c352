// What Claude Code says while it works, as events.
import type { AgentError } from '@atoll/protocol'
import type { TurnContext } from '../harness.ts'
import { providerError } from '../harness-error.ts'
import { claudeUsage } from './claude-usage.ts'
import { count, type Json, list, maybeNumber, maybeText, record, text } from './json.ts'
import { toolKind } from './tool-kinds.ts'

interface Block {
  readonly id: string
  readonly kind: string
  isDone: boolean
}

/** One speaker: the agent itself, or a subagent. */
interface Speaker {
  messageId: string
  blocks: Map<number, Block>
  /** How many blocks were told of without a stream. */
  whole: number
}

function resultText(content: unknown): string {
  if (typeof content === 'string') return content
  return list(content)
    .map((part) => text(record(part)['text']))
    .join('\n')
}

/** A patch as it is commonly written, of the hunks that a tool tells. */
function patchOf(hunks: readonly unknown[]): string | undefined {
  const texts = hunks.map((hunk) => {
    const { oldStart, oldLines, newStart, newLines, lines } = record(hunk)
    return [`@@ -${oldStart},${oldLines} +${newStart},${newLines} @@`, ...list(lines).map(String)].join('\n')
  })
  return texts.length === 0 ? undefined : texts.join('\n')
}

const statuses: Readonly<Record<string, 'connected' | 'failed' | 'pending' | undefined>> = { connected: 'connected', pending: 'pending' }

export class ClaudeEvents {
  readonly #emit: TurnContext['emit']
  readonly #speakers = new Map<string, Speaker>()
  readonly #started = new Set<string>()
  readonly #denied = new Set<string>()
  #error: AgentError | undefined

  constructor(emit: TurnContext['emit']) {
    this.#emit = emit
  }

  /** What the last answer said instead of an answer. */
  get error(): AgentError | undefined {
    return this.#error
  }

  deny(toolId: string): void {
    this.#denied.add(toolId)
  }

  take(message: Json): void {
    const parent = maybeText(message['parent_tool_use_id'])
    if (message['type'] === 'system') this.#takeSystem(message)
    else if (message['type'] === 'stream_event') this.#takeStream(record(message['event']), parent)
    else if (message['type'] === 'assistant') this.#takeAnswer(message, parent)
    else if (message['type'] === 'user') this.#takeResults(message, parent)
  }

  #takeSystem(message: Json): void {
    if (message['subtype'] === 'init') {
      this.#emit({ type: 'session.linked', native_session_id: text(message['session_id']) })
      for (const server of list(message['mcp_servers'])) {
        const { name, status } = record(server)
        this.#emit({ type: 'mcp.status', name: text(name), status: statuses[text(status)] ?? 'failed' })
      }
    } else if (message['subtype'] === 'api_retry') {
      const status = maybeNumber(message['error_status'])
      this.#emit({
        type: 'retry',
        attempt: count(message['attempt']),
        delay_ms: Math.round(count(message['retry_delay_ms'])),
        ...(status !== undefined && { http_status: status }),
        message: text(message['error']) || 'The request is sent again.',
      })
    }
  }

  #speaker(parent: string | undefined): Speaker {
    const known = this.#speakers.get(parent ?? '')
    if (known) return known
    const speaker: Speaker = { messageId: '', blocks: new Map(), whole: 0 }
    this.#speakers.set(parent ?? '', speaker)
    return speaker
  }

  #takeStream(event: Json, parent: string | undefined): void {
    const speaker = this.#speaker(parent)
    const of = parent === undefined ? {} : { parent_tool_id: parent }
    if (event['type'] === 'message_start') this.#beginAnswer(speaker, text(record(event['message'])['id']), of)
    else if (event['type'] === 'content_block_start') this.#beginBlock(speaker, event, parent)
    else if (event['type'] === 'content_block_delta') this.#takeDelta(speaker, event, parent)
    else if (event['type'] === 'message_delta') {
      this.#emit({ type: 'usage', scope: 'step', ...claudeUsage(record(event['usage'])), ...of })
    }
  }

  #beginAnswer(speaker: Speaker, messageId: string, of: { readonly parent_tool_id?: string }): void {
    // An answer that was cut begins anew.
    for (const block of speaker.blocks.values()) {
      if (block.isDone) continue
      if (block.kind === 'text') this.#emit({ type: 'text.reset', message_id: block.id, ...of })
      else if (block.kind === 'tool_use') this.#emit({ type: 'tool.finished', tool_id: block.id, status: 'cancelled', ...of })
    }
    Object.assign(speaker, { messageId, blocks: new Map(), whole: 0 } satisfies Speaker)
    // The model is there, whatever it does first.
    this.#emit({ type: 'reasoning.delta', message_id: messageId, text: '', ...of })
  }

  #beginBlock(speaker: Speaker, event: Json, parent: string | undefined): void {
    const block = record(event['content_block'])
    const kind = text(block['type'])
    const index = count(event['index'])
    const id = kind === 'tool_use' ? text(block['id']) : `${speaker.messageId}-${index}`
    speaker.blocks.set(index, { id, kind, isDone: false })
    if (kind === 'tool_use') this.#startTool(block, { parent, isDraft: true })
    else if (kind === 'thinking')
      this.#emit({ type: 'reasoning.delta', message_id: id, text: '', ...(parent !== undefined && { parent_tool_id: parent }) })
  }

  #startTool(block: Json, { parent, isDraft }: { readonly parent: string | undefined; readonly isDraft: boolean }): void {
    const of = parent === undefined ? {} : { parent_tool_id: parent }
    const id = text(block['id'])
    const name = text(block['name'])
    const whole = isDraft ? { isDraft } : { input: record(block['input']) }
    if (this.#started.has(id)) {
      if (!isDraft) this.#emit({ type: 'tool.updated', tool_id: id, ...whole, ...of })
      return
    }
    this.#started.add(id)
    this.#emit({ type: 'tool.started', tool_id: id, name, kind: toolKind(name) ?? 'other', ...whole, ...of })
  }

  #takeDelta(speaker: Speaker, event: Json, parent: string | undefined): void {
    const block = speaker.blocks.get(count(event['index']))
    if (!block) return
    const of = parent === undefined ? {} : { parent_tool_id: parent }
    const delta = record(event['delta'])
    if (delta['type'] === 'text_delta') this.#emit({ type: 'text.delta', message_id: block.id, text: text(delta['text']), ...of })
    else if (delta['type'] === 'thinking_delta') {
      this.#emit({ type: 'reasoning.delta', message_id: block.id, text: text(delta['thinking']), ...of })
    } else if (delta['type'] === 'input_json_delta') {
      this.#emit({ type: 'tool.updated', tool_id: block.id, input_delta: text(delta['partial_json']), ...of })
    }
  }

  /** A whole block: the truth of what was streamed, or all that is told of what was not. */
  #takeAnswer(message: Json, parent: string | undefined): void {
    const answer = record(message['message'])
    if (message['error'] !== undefined || message['is_api_error_message'] === true) {
      this.#error = providerError(maybeNumber(message['api_error_status']), resultText(answer['content']))
      return
    }
    this.#error = undefined
    const speaker = this.#speaker(parent)
    const of = parent === undefined ? {} : { parent_tool_id: parent }
    for (const one of list(answer['content'])) {
      const block = record(one)
      if (block['type'] === 'tool_use') this.#takeCall(speaker, block, parent)
      else if (block['type'] === 'text') {
        this.#emit({ type: 'text.done', message_id: this.#blockId(speaker, 'text', answer), text: text(block['text']), ...of })
      } else if (block['type'] === 'thinking') {
        this.#emit({ type: 'reasoning.done', message_id: this.#blockId(speaker, 'thinking', answer), text: text(block['thinking']), ...of })
      }
    }
  }

  #takeCall(speaker: Speaker, block: Json, parent: string | undefined): void {
    const open = [...speaker.blocks.values()].find(({ id }) => id === block['id'])
    if (open) open.isDone = true
    this.#startTool(block, { parent, isDraft: false })
  }

  #blockId(speaker: Speaker, kind: string, answer: Json): string {
    const open = [...speaker.blocks.values()].find((block) => block.kind === kind && !block.isDone)
    if (open) {
      open.isDone = true
      return open.id
    }
    speaker.whole += 1
    return `${text(answer['id'])}-whole-${speaker.whole}`
  }

  #takeResults(message: Json, parent: string | undefined): void {
    const detail = record(message['tool_use_result'])
    for (const one of list(record(message['message'])['content'])) {
      const block = record(one)
      if (block['type'] !== 'tool_result') continue
      const id = text(block['tool_use_id'])
      const output = resultText(block['content'])
      this.#tellChange(detail, id)
      const exitCode = /^(?:Error: )?Exit code (\d+)/.exec(output)?.[1]
      this.#emit({
        type: 'tool.finished',
        tool_id: id,
        status: this.#denied.has(id) ? 'denied' : block['is_error'] === true ? 'error' : 'ok',
        output,
        ...(exitCode !== undefined && { exit_code: Number(exitCode) }),
        ...(parent !== undefined && { parent_tool_id: parent }),
      })
    }
  }

  #tellChange(detail: Json, toolId: string): void {
    const file = maybeText(detail['filePath'])
    if (file === undefined || !Array.isArray(detail['structuredPatch'])) return
    const diff = patchOf(detail['structuredPatch'])
    const change = detail['type'] === 'create' ? 'add' : 'modify'
    this.#emit({ type: 'file.changed', path: file, change, tool_id: toolId, ...(diff !== undefined && { diff }) })
  }
}
