// Turns the session updates of the Agent Client Protocol into events of a run.
import path from 'node:path'
import type { SessionUpdate, ToolCallContent, ToolCallUpdate } from '@agentclientprotocol/sdk'
import type { ToolKind } from '@atoll/protocol'
import type { HarnessEvent } from '../harness.ts'
import { toolKind } from './tool-kinds.ts'

export interface AcpEventsOptions {
  readonly emit: (event: HarnessEvent) => void
  readonly cwd: string
  readonly servers: readonly string[]
  /** What the program calls the tool of a call, where it does not say so in the field for it. */
  readonly toolName?: ((call: ToolCallUpdate) => string | undefined) | undefined
  /** Whether it shows nothing of a call before it has all the arguments. */
  readonly hidesArguments: boolean
  /** Called when the model begins another answer. When it may not, nothing of it is told, nor of what comes after. */
  readonly mayAnswer: (count: number) => boolean
  /** Whether the turn is being cancelled: a tool that ends now has not ended by itself. */
  readonly isCancelled: () => boolean
}

interface OpenTool {
  readonly startedAt: number
  input: string | undefined
  /** The text of the arguments as far as it has come. */
  draft: string
  output: string
}

interface OpenMessage {
  readonly kind: 'text' | 'reasoning'
  readonly id: string
  readonly nativeId: string | undefined
  text: string
}

const kinds: Readonly<Record<string, ToolKind>> = {
  delete: 'edit',
  edit: 'edit',
  execute: 'shell',
  fetch: 'fetch',
  move: 'edit',
  read: 'read',
  search: 'search',
}

const textOf = (content: readonly ToolCallContent[] | null | undefined): string =>
  (content ?? []).map((part) => (part.type === 'content' && part.content.type === 'text' ? part.content.text : '')).join('')

const sentenceEnd = /[.!?:;…。！？：`)\]}|>*"'”]\s*$|\n\s*$/u

/** What `next` has beyond `last`; all of it when it is another text. */
const added = (last: string, next: string): string => (next.startsWith(last) ? next.slice(last.length) : next)

export class AcpEvents {
  readonly #options: AcpEventsOptions
  readonly #open = new Map<string, OpenTool>()
  readonly #finished = new Set<string>()
  #message: OpenMessage | undefined
  #messages = 0
  #lastText: string | undefined
  #answers = 0
  #isAnswering = false
  #isOver = false

  constructor(options: AcpEventsOptions) {
    this.#options = options
  }

  get lastText(): string | undefined {
    return this.#lastText
  }

  update(update: SessionUpdate): void {
    if (this.#isOver) return
    switch (update.sessionUpdate) {
      case 'agent_message_chunk':
      case 'agent_thought_chunk':
        if (update.content.type !== 'text') return
        this.#chunk(
          update.sessionUpdate === 'agent_message_chunk' ? 'text' : 'reasoning',
          update.content.text,
          update.messageId ?? undefined,
        )
        return
      case 'tool_call':
      case 'tool_call_update':
        this.toolCall(update)
    }
  }

  /** A call as an update or a question about it tells it. Answers what the tool is. */
  toolCall(call: ToolCallUpdate): { name: string; kind: ToolKind } {
    this.closeMessage()
    const tool = this.#nameOf(call)
    if (this.#finished.has(call.toolCallId) || !this.#answer()) return tool
    const open = this.#open.get(call.toolCallId) ?? this.#start(call, tool)
    if (call.status === 'completed' || call.status === 'failed') this.#finish(call, open)
    else this.#progress(call, open)
    return tool
  }

  /** The caller does not want the tool to run. */
  deny(toolId: string): void {
    if (!this.#open.has(toolId)) return
    this.#close(toolId)
    this.#options.emit({ type: 'tool.finished', tool_id: toolId, status: 'denied' })
  }

  /** Says that the message which came in pieces is whole. */
  closeMessage(): void {
    const message = this.#message
    if (!message) return
    this.#message = undefined
    if (message.kind === 'text') this.#lastText = message.text
    this.#options.emit({ type: `${message.kind}.done`, message_id: message.id, text: message.text })
  }

  #chunk(kind: OpenMessage['kind'], text: string, nativeId: string | undefined): void {
    if (this.#message && (this.#message.kind !== kind || this.#message.nativeId !== nativeId)) this.closeMessage()
    if (text === '' || !this.#answer()) return
    this.#message ??= { kind, id: `message-${++this.#messages}`, nativeId, text: '' }
    this.#message.text += text
    const { id: message_id } = this.#message
    this.#options.emit({ type: `${kind}.delta`, message_id, text })
    // After a whole sentence, the model may be at the arguments of a call, and long.
    if (this.#options.hidesArguments && sentenceEnd.test(this.#message.text))
      this.#options.emit({ type: 'reasoning.delta', message_id, text: '' })
  }

  #nameOf(call: ToolCallUpdate): { name: string; kind: ToolKind } {
    const name = this.#options.toolName?.(call) ?? call.name ?? call.title ?? 'tool'
    return { name, kind: toolKind(name, this.#options.servers) ?? kinds[call.kind ?? ''] ?? 'other' }
  }

  #start(call: ToolCallUpdate, { name, kind }: { name: string; kind: ToolKind }): OpenTool {
    const open: OpenTool = { startedAt: Date.now(), input: undefined, draft: '', output: '' }
    this.#open.set(call.toolCallId, open)
    if (call.rawInput !== undefined) open.input = JSON.stringify(call.rawInput)
    this.#options.emit({
      type: 'tool.started',
      tool_id: call.toolCallId,
      name,
      kind,
      ...(call.title ? { title: call.title } : {}),
      ...(call.rawInput === undefined ? { isDraft: call.status === 'pending' } : { input: call.rawInput }),
    })
    return open
  }

  #progress(call: ToolCallUpdate, open: OpenTool): void {
    const update = { type: 'tool.updated', tool_id: call.toolCallId } as const
    const input = call.rawInput === undefined ? undefined : JSON.stringify(call.rawInput)
    const text = textOf(call.content)
    if (input !== undefined && input !== open.input) {
      open.input = input
      this.#options.emit({ ...update, input: call.rawInput })
      return
    }
    if (open.input === undefined && text.startsWith('{')) {
      // Before the input is whole, some programs show it here as it grows, though they call the tool one in progress.
      if (text !== open.draft) this.#options.emit({ ...update, input_delta: added(open.draft, text) })
      open.draft = text
      return
    }
    if (call.status === 'in_progress') this.#options.emit({ ...update, isDraft: false })
    if (text === '') return
    if (open.input === undefined) open.draft = text
    else if (text !== open.output && text !== open.draft) {
      this.#options.emit({ ...update, output_delta: added(open.output, text) })
      open.output = text
    }
  }

  /** An answer goes on until all its calls have ended; the protocol does not say when one is over. */
  #answer(): boolean {
    if (this.#isAnswering || this.#isOver) return !this.#isOver
    this.#isAnswering = true
    this.#answers += 1
    this.#isOver = !this.#options.mayAnswer(this.#answers)
    return !this.#isOver
  }

  #close(toolId: string): void {
    this.#open.delete(toolId)
    this.#finished.add(toolId)
    if (this.#open.size === 0) this.#isAnswering = false
  }

  #finish(call: ToolCallUpdate, open: OpenTool): void {
    const { toolCallId, content, rawOutput, status } = call
    this.#close(toolCallId)
    for (const part of content ?? []) {
      if (part.type !== 'diff' || status !== 'completed') continue
      const change = part.oldText ? (part.newText === '' && kindOf(part) === 'delete' ? 'delete' : 'modify') : 'add'
      this.#options.emit({ type: 'file.changed', path: this.#pathOf(part.path), change, tool_id: toolCallId })
    }
    const output = typeof rawOutput === 'string' ? rawOutput : textOf(content)
    const ended = status === 'completed' ? 'ok' : 'error'
    this.#options.emit({
      type: 'tool.finished',
      tool_id: toolCallId,
      status: this.#options.isCancelled() ? 'cancelled' : ended,
      ...(output === '' ? {} : { output }),
      duration_ms: Date.now() - open.startedAt,
    })
  }

  #pathOf(file: string): string {
    const relative = path.relative(this.#options.cwd, path.resolve(this.#options.cwd, file))
    return relative.startsWith('..') ? path.resolve(this.#options.cwd, file) : relative
  }
}

const kindOf = (part: { _meta?: { [key: string]: unknown } | null }): unknown => part._meta?.['kind']
