// The four request formats, read as one flat conversation.
import { contentText, type Json, list, record, records, text } from './json.ts'

export type Protocol = 'anthropic' | 'responses' | 'chat' | 'gemini'

export type Item =
  | { readonly kind: 'user'; readonly text: string; readonly isInjected: boolean }
  | { readonly kind: 'answer'; readonly text: string }
  | { readonly kind: 'call' | 'result' }

/** Harnesses put notes of their own among the user's words: reminders, environment, notices about background work. */
const isNote = (words: string): boolean => /^\s*(<[a-z][\w-]*|# AGENTS\.md|Base directory for this skill)/i.test(words)

const user = (words: string, isInjected = isNote(words)): Item => ({ kind: 'user', text: words, isInjected })
const answer = (words: string): Item[] => (words.trim() ? [{ kind: 'answer', text: words }] : [])

function anthropicBlock(role: unknown, block: Json, isBesideResult: boolean): Item[] {
  if (block['type'] === 'tool_result') return [{ kind: 'result' }]
  if (block['type'] === 'tool_use') return [{ kind: 'call' }]
  if (block['type'] !== 'text') return []
  const words = text(block['text'])
  return role === 'user' ? [user(words, isBesideResult || isNote(words))] : answer(words)
}

function anthropic(body: Json): Item[] {
  // What a client says about the surroundings comes as `system`.
  const said = records(body['messages']).filter(({ role }) => role === 'user' || role === 'assistant')
  return said.flatMap(({ role, content }) => {
    const blocks = typeof content === 'string' ? [{ type: 'text', text: content }] : records(content)
    const hasResult = blocks.some(({ type }) => type === 'tool_result')
    return blocks.flatMap((block) => anthropicBlock(role, block, hasResult))
  })
}

function responses(body: Json): Item[] {
  if (typeof body['input'] === 'string') return [user(body['input'])]
  return records(body['input']).flatMap(({ type, role, content }): Item[] => {
    if (text(type).endsWith('_output')) return [{ kind: 'result' }]
    if (text(type).endsWith('_call')) return [{ kind: 'call' }]
    if (role === 'assistant') return answer(contentText(content))
    if (role !== 'user') return []
    return Array.isArray(content) ? content.map((part) => user(contentText(part))) : [user(contentText(content))]
  })
}

function chat(body: Json): Item[] {
  return records(body['messages']).flatMap(({ role, content, tool_calls: calls }): Item[] => {
    if (role === 'tool') return [{ kind: 'result' }]
    if (role === 'assistant') return [...answer(contentText(content)), ...list(calls).map((): Item => ({ kind: 'call' }))]
    if (role !== 'user') return []
    return Array.isArray(content) ? content.map((part) => user(contentText(part))) : [user(contentText(content))]
  })
}

function geminiPart(role: unknown, part: Json, isBesideResult: boolean): Item[] {
  if (part['functionResponse'] !== undefined) return [{ kind: 'result' }]
  if (part['functionCall'] !== undefined) return [{ kind: 'call' }]
  const words = text(part['text'])
  if (part['thought'] === true || !words) return []
  return role === 'model' ? answer(words) : [user(words, isBesideResult || isNote(words))]
}

function gemini(body: Json): Item[] {
  return records(body['contents']).flatMap(({ role, parts }) => {
    const all = records(parts)
    const hasResult = all.some((part) => part['functionResponse'] !== undefined)
    return all.flatMap((part) => geminiPart(role, part, hasResult))
  })
}

const readers = { anthropic, responses, chat, gemini }

export const readConversation = (protocol: Protocol, body: Json): readonly Item[] => readers[protocol](body)

export interface Tool {
  readonly name: string
  readonly namespace: string | undefined
  /** `function`, or what the protocol calls a tool that takes free text. */
  readonly kind: string
  readonly schema: Json
  readonly description: string
}

const tool = (given: Json, schema: unknown, kind = 'function', namespace?: string): Tool => ({
  name: text(given['name']) || text(given['type']),
  namespace,
  kind,
  schema: record(schema),
  description: text(given['description']),
})

/** Newer clients group tools in namespaces, and declare some of them among the input. */
function responseTools(given: readonly Json[], namespace?: string): Tool[] {
  return given.flatMap((one) => {
    if (one['type'] === 'namespace') return responseTools(records(one['tools']), text(one['name']))
    return [tool(one, one['parameters'], text(one['type']), namespace)]
  })
}

export function readTools(protocol: Protocol, body: Json): readonly Tool[] {
  const given = records(body['tools'])
  switch (protocol) {
    case 'anthropic':
      return given.map((one) => tool(one, one['input_schema']))
    case 'chat':
      return given.map((one) => tool(record(one['function']), record(one['function'])['parameters']))
    case 'gemini':
      return given
        .flatMap((one) => records(one['functionDeclarations']))
        .map((one) => tool(one, one['parametersJsonSchema'] ?? one['parameters']))
    case 'responses':
      return responseTools([...given, ...records(body['input']).flatMap((item) => records(item['tools']))])
  }
}

/** The schema of an answer that has to be JSON. */
export function answerSchema(body: Json): Json | undefined {
  const generation = record(body['generationConfig'])
  const schema =
    generation['responseJsonSchema'] ??
    generation['responseSchema'] ??
    record(record(body['text'])['format'])['schema'] ??
    record(record(body['response_format'])['json_schema'])['schema'] ??
    record(record(body['output_config'])['format'])['schema']
  return schema === undefined ? undefined : record(schema)
}
