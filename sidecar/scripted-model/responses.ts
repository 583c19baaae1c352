// OpenAI Responses.
import { openaiFailure } from './openai-failure.ts'
import type { Reply, Usage } from './reply.ts'
import type { ToolCall } from './tool-call.ts'
import { argumentPieces, newId, type StreamEvent, textPieces, type Writer } from './wire.ts'

function usageOf({ input, output, cache_read: cached, reasoning }: Usage) {
  return {
    input_tokens: input + cached,
    input_tokens_details: { cached_tokens: cached },
    output_tokens: output,
    output_tokens_details: { reasoning_tokens: reasoning },
    total_tokens: input + cached + output,
  }
}

type Events = Generator<{ readonly type: string } & Pick<StreamEvent, 'piece'> & Readonly<Record<string, unknown>>, object>

/** Yields the events of one item of the output, and returns the finished item. */
function* reasoningItem(thoughts: readonly string[], at: number): Events {
  const id = newId('rs_')
  const place = { item_id: id, output_index: at, summary_index: 0 }
  yield { type: 'response.output_item.added', output_index: at, item: { id, type: 'reasoning', summary: [] } }
  yield { type: 'response.reasoning_summary_part.added', ...place, part: { type: 'summary_text', text: '' } }
  for (const delta of thoughts) yield { type: 'response.reasoning_summary_text.delta', ...place, delta, piece: 'other' }
  const text = thoughts.join('')
  yield { type: 'response.reasoning_summary_text.done', ...place, text }
  return { id, type: 'reasoning', summary: [{ type: 'summary_text', text }] }
}

function* messageItem(pieces: readonly string[], at: number): Events {
  const id = newId('msg_')
  const item = { id, type: 'message', role: 'assistant', status: 'in_progress', content: [] }
  const place = { item_id: id, output_index: at, content_index: 0 }
  yield { type: 'response.output_item.added', output_index: at, item }
  yield { type: 'response.content_part.added', ...place, part: { type: 'output_text', text: '', annotations: [] } }
  for (const delta of pieces) yield { type: 'response.output_text.delta', ...place, delta, piece: 'text' }
  const text = pieces.join('')
  yield { type: 'response.output_text.done', ...place, text }
  return { ...item, status: 'completed', content: [{ type: 'output_text', text, annotations: [] }] }
}

/** What a call is made of in this protocol: which member carries the input, and what its events are called. */
function callForm(call: ToolCall) {
  const { name, namespace } = call.tool
  const identity = { call_id: newId('call_'), name, ...(namespace ? { namespace } : {}), status: 'completed' }
  switch (call.type) {
    case 'arguments':
      return {
        item: { id: newId('fc_'), type: 'function_call', ...identity },
        member: 'arguments',
        input: JSON.stringify(call.value),
        event: 'response.function_call_arguments',
      }
    case 'freeform':
      return {
        item: { id: newId('ctc_'), type: 'custom_tool_call', ...identity },
        member: 'input',
        input: call.value,
        event: 'response.custom_tool_call_input',
      }
    case 'local_shell':
      return {
        item: {
          id: newId('lsh_'),
          type: 'local_shell_call',
          call_id: identity.call_id,
          status: 'completed',
          action: { type: 'exec', command: call.value, env: {} },
        },
      }
  }
}

function* callItem(call: ToolCall, pieces: number, at: number): Events {
  const { item, member, input, event } = callForm(call)
  if (member === undefined) {
    yield { type: 'response.output_item.added', output_index: at, item: { ...item, status: 'in_progress' } }
    return item
  }
  const place = { item_id: item.id, output_index: at }
  yield { type: 'response.output_item.added', output_index: at, item: { ...item, status: 'in_progress', [member]: '' } }
  for (const delta of argumentPieces(input, pieces)) yield { type: `${event}.delta`, ...place, delta, piece: 'arguments' }
  yield { type: `${event}.done`, ...place, [member]: input }
  return { ...item, [member]: input }
}

function itemsOf(reply: Reply): ((at: number) => Events)[] {
  const { thoughts, action } = reply
  const words = textPieces(reply)
  const items: ((at: number) => Events)[] = []
  if (thoughts.length > 0) items.push((at) => reasoningItem(thoughts, at))
  if (action.type === 'text' || words.length > 0) items.push((at) => messageItem(words, at))
  if (action.type === 'call') items.push((at) => callItem(action.call, action.argumentPieces, at))
  return items
}

function* events(reply: Reply): Events {
  const base = { id: newId('resp_'), object: 'response', created_at: Math.floor(Date.now() / 1000), model: reply.model }
  const started = { ...base, status: 'in_progress', output: [] }
  yield { type: 'response.created', response: started }
  yield { type: 'response.in_progress', response: started }
  const output: object[] = []
  for (const [at, item] of itemsOf(reply).entries()) {
    const done = yield* item(at)
    output.push(done)
    yield { type: 'response.output_item.done', output_index: at, item: done }
  }
  const response = { ...base, status: 'completed', output, usage: usageOf(reply.usage) }
  yield { type: 'response.completed', response }
  return response
}

function* stream(reply: Reply): Generator<StreamEvent> {
  let sequence = 0
  for (const { piece, ...event } of events(reply)) {
    const data = { ...event, sequence_number: sequence++ }
    yield { name: event.type, data, ...(piece ? { piece } : {}) }
  }
}

function whole(reply: Reply): unknown {
  const all = events(reply)
  let next = all.next()
  while (!next.done) next = all.next()
  return next.value
}

export const responses: Writer = { whole, stream, failure: openaiFailure }
