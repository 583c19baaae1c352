// OpenAI Chat Completions.
import { openaiFailure } from './openai-failure.ts'
import type { Reply, Usage } from './reply.ts'
import { answerText, argumentPieces, newId, type StreamEvent, textPieces, type Writer } from './wire.ts'

function usageOf({ input, output, cache_read: cached, reasoning }: Usage) {
  const prompt = input + cached
  return {
    prompt_tokens: prompt,
    completion_tokens: output,
    total_tokens: prompt + output,
    prompt_tokens_details: { cached_tokens: cached },
    completion_tokens_details: { reasoning_tokens: reasoning },
    cached_tokens: cached,
  }
}

const finishReason = ({ action }: Reply): string => (action.type === 'call' ? 'tool_calls' : 'stop')

function toolCall({ action }: Reply) {
  if (action.type !== 'call') return undefined
  const { tool, value } = action.call
  return { id: newId('call_'), type: 'function', function: { name: tool.name, arguments: JSON.stringify(value) } }
}

const head = (reply: Reply, object: string) => ({
  id: newId('chatcmpl-'),
  object,
  created: Math.floor(Date.now() / 1000),
  model: reply.model,
})

function whole(reply: Reply): unknown {
  const call = toolCall(reply)
  const message = { role: 'assistant', content: answerText(reply) || null, ...(call ? { tool_calls: [call] } : {}) }
  const choices = [{ index: 0, finish_reason: finishReason(reply), message }]
  return { ...head(reply, 'chat.completion'), choices, usage: usageOf(reply.usage) }
}

function* stream(reply: Reply): Generator<StreamEvent> {
  const base = head(reply, 'chat.completion.chunk')
  const chunk = (delta: object, finish: string | null = null) => ({
    data: { ...base, choices: [{ index: 0, delta, finish_reason: finish }] },
  })
  yield chunk({ role: 'assistant', content: '' })
  for (const thought of reply.thoughts) yield { ...chunk({ reasoning_content: thought }), piece: 'other' }
  for (const content of textPieces(reply)) yield { ...chunk({ content }), piece: 'text' }
  const call = toolCall(reply)
  if (call && reply.action.type === 'call') {
    yield chunk({ tool_calls: [{ index: 0, id: call.id, type: 'function', function: { name: call.function.name, arguments: '' } }] })
    for (const json of argumentPieces(call.function.arguments, reply.action.argumentPieces)) {
      yield { ...chunk({ tool_calls: [{ index: 0, function: { arguments: json } }] }), piece: 'arguments' }
    }
  }
  yield chunk({}, finishReason(reply))
  yield { data: { ...base, choices: [], usage: usageOf(reply.usage) } }
  yield { data: '[DONE]' }
}

export const chat: Writer = { whole, stream, failure: openaiFailure }
