// The script of a turn stands in its prompt. `[[plan:STEP,STEP]]` names the steps, `[[mark:value]]` says how they are played.
import type { Item } from './conversation.ts'

export interface Script {
  /** The prompt that this request answers. */
  readonly prompt: string
  /** The step to play now: as many tools have answered since the prompt, so many steps are done. */
  readonly step: string
  readonly position: number
  readonly marks: ReadonlyMap<string, string>
  /** What the user said first in this conversation, without directives. */
  readonly firstPrompt: string
}

const directive = /\[\[(?<name>\w+)(?::(?<value>[\s\S]*?))?\]\]/g
const defaultPlan = 'write,text'

const hasDirective = (words: string): boolean => /\[\[\w+(?::[\s\S]*?)?\]\]/.test(words)
export const withoutDirectives = (words: string): string => words.replaceAll(directive, '').trim()
const withoutNotes = (words: string): string => words.replaceAll(/<([a-z][\w-]*)[^>]*>[\s\S]*?<\/\1>/gi, '').trim()

function readMarks(prompt: string): Map<string, string> {
  const found = [...prompt.matchAll(directive)]
  return new Map(found.map(({ groups }) => [groups?.['name'] ?? '', groups?.['value'] ?? '']))
}

/** A turn begins after the last answer that called no tool. Those that nothing follows were cut, and are to be gone on with. */
function currentTurn(items: readonly Item[]): readonly Item[] {
  const settled = items.slice(0, items.findLastIndex(({ kind }) => kind !== 'answer') + 1)
  const end = settled.findLastIndex(({ kind }, index) => kind === 'answer' && items[index + 1]?.kind !== 'call')
  return items.slice(end + 1)
}

function promptIndex(turn: readonly Item[]): number {
  const withScript = turn.findLastIndex((item) => item.kind === 'user' && hasDirective(item.text))
  return withScript >= 0 ? withScript : turn.findLastIndex((item) => item.kind === 'user' && !item.isInjected)
}

function firstPrompt(items: readonly Item[]): string {
  const said = items.filter((item) => item.kind === 'user')
  const first = said.find(({ text }) => hasDirective(text)) ?? said.find(({ isInjected }) => !isInjected)
  return first ? withoutDirectives(withoutNotes(first.text)) : ''
}

export function readScript(items: readonly Item[]): Script {
  const turn = currentTurn(items)
  const at = promptIndex(turn)
  const item = turn[at]
  const prompt = item?.kind === 'user' ? item.text : ''
  const marks = readMarks(prompt)
  const position = turn.slice(at + 1).filter(({ kind }) => kind === 'result').length
  // A harness that speaks up by itself, about work in the background, gets a word and no new work.
  const plan = at < 0 ? 'text' : marks.get('plan') || defaultPlan
  const steps = plan.split(',').map((step) => step.trim())
  return { prompt, step: steps[position] ?? steps.at(-1) ?? 'text', position, marks, firstPrompt: firstPrompt(items) }
}
