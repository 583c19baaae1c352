// What the model does with a request, before any protocol gives it a form.
import { answerSchema, type Protocol, readConversation, readTools, type Tool } from './conversation.ts'
import type { Json } from './json.ts'
import { fill } from './schema.ts'
import { readScript, type Script, withoutDirectives } from './script.ts'
import { callFor, isFinisher, type ToolCall, toolSteps } from './tool-call.ts'

/** Tokens of one answer. `input` is without what came from the cache; `output` is with the reasoning. */
export interface Usage {
  readonly input: number
  readonly output: number
  readonly cache_read: number
  readonly cache_write: number
  readonly reasoning: number
}

/** `stall` falls silent and `drop` cuts the connection in the middle: of the text, or of the arguments of a call. */
export type Ending = 'complete' | 'stall' | 'drop'

export type Action =
  | { readonly type: 'fail'; readonly status: number }
  | { readonly type: 'hang' }
  | { readonly type: 'text'; readonly pieces: readonly string[]; readonly ending: Ending }
  /** `said` stands before the call in the same answer. */
  | {
      readonly type: 'call'
      readonly call: ToolCall
      readonly said: readonly string[]
      readonly argumentPieces: number
      readonly ending: Ending
    }

export interface Reply {
  readonly action: Action
  readonly thoughts: readonly string[]
  /** Between two pieces of a stream. */
  readonly pauseMs: number
  readonly usage: Usage
  readonly model: string
}

export interface Decision {
  readonly reply: Reply
  readonly script: Script
  readonly tools: readonly Tool[]
  /** Whether the request has the words that `[[find:…]]` names, anywhere but in directives. */
  readonly hasFound: boolean | undefined
}

const slowPauseMs = 100
const slowPieces = Array.from({ length: 100 }, (_, index) => `word${index} `)

/** At least four pieces, cut between characters. */
function pieces(words: string): string[] {
  const characters = [...words]
  const size = Math.max(1, Math.min(200, Math.floor(characters.length / 4)))
  return Array.from({ length: Math.ceil(characters.length / size) }, (_, index) =>
    characters.slice(index * size, (index + 1) * size).join(''),
  )
}

const complete = (words: string): Action => ({ type: 'text', pieces: pieces(words), ending: 'complete' })

function textAction(script: Script, schema: Json | undefined): Action {
  if (schema) return complete(JSON.stringify(fill(schema)))
  const reply = script.marks.get('reply')
  return complete(reply ?? `Done: the scripted model has finished step ${script.position}.`)
}

const defaultArgumentPieces = 3
const endings: readonly Ending[] = ['stall', 'drop']

function callAction(call: ToolCall, { marks }: Script): Action {
  const words = marks.get('say')
  return {
    type: 'call',
    call,
    said: words === undefined ? [] : pieces(words),
    argumentPieces: Number(marks.get('pieces')) || defaultArgumentPieces,
    ending: endings.find((ending) => ending === marks.get('arguments')) ?? 'complete',
  }
}

function actionFor(script: Script, tools: readonly Tool[], body: Json): Action {
  const { step } = script
  const failure = /^err(?<status>[45]\d\d)$/.exec(step)?.groups?.['status']
  if (failure) return { type: 'fail', status: Number(failure) }
  if (step === 'hang') return { type: 'hang' }
  if (step === 'slow') return { type: 'text', pieces: slowPieces, ending: 'complete' }
  if (step === 'stall' || step === 'drop') return { type: 'text', pieces: slowPieces, ending: step }
  if (step === 'recall') return complete(`You said first: ${script.firstPrompt}`)
  const isToolStep = step === 'text' || toolSteps.includes(step) || step.startsWith('tool=')
  // A request without tools is a harness's own errand: a title, a summary, a choice of model.
  const isText = step === 'text' && !tools.some(isFinisher)
  if (isText || tools.length === 0) return textAction(script, tools.length === 0 ? answerSchema(body) : undefined)
  if (!isToolStep) return complete(`The script names a step that does not exist: ${step}.`)
  const call = callFor(step === 'text' ? 'finish' : step, { tools, marks: script.marks, source: strings(body).join('\n') })
  return call ? callAction(call, script) : complete(`No tool is offered for the step ${step}: ${tools.map(({ name }) => name).join(' ')}`)
}

function strings(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null) return []
  return Object.values(value).flatMap(strings)
}

function find(body: Json, wanted: string | undefined): boolean | undefined {
  return wanted === undefined ? undefined : withoutDirectives(strings(body).join('\n')).includes(wanted)
}

/** Each step has its own numbers, so that a sum tells whether one was lost or counted twice. */
const usageAt = (position: number, isThinking: boolean): Usage => ({
  input: 1000 + 100 * position,
  output: 42 + position,
  cache_read: 200,
  cache_write: 0,
  reasoning: isThinking ? 7 : 0,
})

export function decide(protocol: Protocol, body: Json, model: string): Decision {
  const script = readScript(readConversation(protocol, body))
  const tools = readTools(protocol, body)
  const isThinking = script.marks.has('think')
  const reply: Reply = {
    action: actionFor(script, tools, body),
    thoughts: isThinking ? ['I should ', 'do the ', 'scripted step.'] : [],
    pauseMs: Number(script.marks.get('delay')) || (script.step === 'slow' ? slowPauseMs : 0),
    usage: usageAt(script.position, isThinking),
    model,
  }
  return { reply, script, tools, hasFound: find(body, script.marks.get('find')) }
}
