// Anthropic Messages.
import type { Reply, Usage } from './reply.ts'
import { answerText, argumentPieces, newId, type StreamEvent, textPieces, type Writer } from './wire.ts'

const errorTypes: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'rate_limit_error',
  529: 'overloaded_error',
}

const usageOf = (usage: Usage, output: number) => ({
  input_tokens: usage.input,
  cache_read_input_tokens: usage.cache_read,
  cache_creation_input_tokens: usage.cache_write,
  output_tokens: output,
})

const stopReason = ({ action }: Reply): string => (action.type === 'call' ? 'tool_use' : 'end_turn')

function toolUse(reply: Reply): object[] {
  if (reply.action.type !== 'call') return []
  const { tool, value } = reply.action.call
  return [{ type: 'tool_use', id: newId('toolu_'), name: tool.name, input: value }]
}

const message = (reply: Reply) => ({ id: newId('msg_'), type: 'message', role: 'assistant', model: reply.model, stop_sequence: null })

function whole(reply: Reply): unknown {
  const words = answerText(reply)
  const content = [...(words ? [{ type: 'text', text: words }] : []), ...toolUse(reply)]
  return { ...message(reply), content, stop_reason: stopReason(reply), usage: usageOf(reply.usage, reply.usage.output) }
}

interface Block {
  readonly start: object
  readonly deltas: readonly object[]
  readonly piece: StreamEvent['piece']
}

function blocksOf(reply: Reply): Block[] {
  const { thoughts, action } = reply
  const words = textPieces(reply)
  const blocks: Block[] = []
  if (thoughts.length > 0) {
    const deltas = [
      ...thoughts.map((thinking) => ({ type: 'thinking_delta', thinking })),
      { type: 'signature_delta', signature: 'c2lnbmF0dXJl' },
    ]
    blocks.push({ start: { type: 'thinking', thinking: '', signature: '' }, deltas, piece: 'other' })
  }
  if (action.type === 'text' || words.length > 0) {
    const deltas = words.map((text) => ({ type: 'text_delta', text }))
    blocks.push({ start: { type: 'text', text: '' }, deltas, piece: 'text' })
  }
  if (action.type === 'call') {
    const start = { type: 'tool_use', id: newId('toolu_'), name: action.call.tool.name, input: {} }
    const json = argumentPieces(JSON.stringify(action.call.value), action.argumentPieces)
    const deltas = json.map((partial_json) => ({ type: 'input_json_delta', partial_json }))
    blocks.push({ start, deltas, piece: 'arguments' })
  }
  return blocks
}

function* stream(reply: Reply): Generator<StreamEvent> {
  const event = (name: string, rest: object): StreamEvent => ({ name, data: { type: name, ...rest } })
  const usage = usageOf(reply.usage, 1)
  yield event('message_start', { message: { ...message(reply), content: [], stop_reason: null, usage } })
  for (const [index, { start, deltas, piece }] of blocksOf(reply).entries()) {
    yield event('content_block_start', { index, content_block: start })
    for (const delta of deltas) yield { ...event('content_block_delta', { index, delta }), ...(piece && { piece }) }
    yield event('content_block_stop', { index })
  }
  const delta = { stop_reason: stopReason(reply), stop_sequence: null }
  yield event('message_delta', { delta, usage: usageOf(reply.usage, reply.usage.output) })
  yield event('message_stop', {})
}

const failure = (status: number, text: string): unknown => ({
  type: 'error',
  error: { type: errorTypes[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error'), message: text },
})

export const anthropic: Writer = { whole, stream, failure }
