// Gemini generateContent and streamGenerateContent.
import type { Reply, Usage } from './reply.ts'
import { answerText, newId, type StreamEvent, textPieces, type Writer } from './wire.ts'

const statuses: Readonly<Record<number, string>> = {
  400: 'INVALID_ARGUMENT',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  429: 'RESOURCE_EXHAUSTED',
  503: 'UNAVAILABLE',
}

const usageOf = ({ input, output, cache_read: cached, reasoning }: Usage) => ({
  promptTokenCount: input + cached,
  candidatesTokenCount: output - reasoning,
  totalTokenCount: input + cached + output,
  cachedContentTokenCount: cached,
  thoughtsTokenCount: reasoning,
})

function callParts({ action }: Reply): object[] {
  if (action.type !== 'call') return []
  const { tool, value } = action.call
  return [{ functionCall: { name: tool.name, args: value, id: newId('fc_') }, thoughtSignature: 'c2ln' }]
}

function answerer(reply: Reply) {
  const base = { modelVersion: reply.model, responseId: newId('g') }
  return {
    chunk: (parts: readonly object[]) => ({ ...base, candidates: [{ content: { role: 'model', parts }, index: 0 }] }),
    last: (parts: readonly object[]) => ({
      ...base,
      candidates: [{ content: { role: 'model', parts }, index: 0, finishReason: 'STOP' }],
      usageMetadata: usageOf(reply.usage),
    }),
  }
}

function whole(reply: Reply): unknown {
  const words = answerText(reply)
  return answerer(reply).last([...(words ? [{ text: words }] : []), ...callParts(reply)])
}

function* stream(reply: Reply): Generator<StreamEvent> {
  const { chunk, last } = answerer(reply)
  for (const thought of reply.thoughts) yield { data: chunk([{ text: `**Plan** ${thought}`, thought: true }]), piece: 'other' }
  for (const text of textPieces(reply)) yield { data: chunk([{ text }]), piece: 'text' }
  const { action } = reply
  // A call comes as a whole.
  if (action.type === 'call') for (let at = 0; at < action.argumentPieces; at++) yield { data: undefined, piece: 'arguments' }
  const calls = callParts(reply)
  yield { data: last(calls.length > 0 ? calls : [{ text: '' }]) }
}

const failure = (status: number, message: string): unknown => ({
  error: { code: status, message, status: statuses[status] ?? 'INTERNAL' },
})

export const gemini: Writer = { whole, stream, failure }
