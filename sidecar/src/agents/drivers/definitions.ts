// Skills and subagents as the files that harnesses read: Markdown below front matter.
import path from 'node:path'
import type { Turn, TurnContext } from '../harness.ts'

/** A JSON string is a YAML string. */
const front = (fields: Readonly<Record<string, string>>): string =>
  ['---', ...Object.entries(fields).map(([name, value]) => `${name}: ${JSON.stringify(value)}`), '---', ''].join('\n')

/** Writes `<folder>/<skill>/SKILL.md` for each skill of the turn. */
export async function writeSkills(turn: Turn, context: TurnContext, folder: string): Promise<void> {
  for (const [name, { description, content }] of Object.entries(turn.skills)) {
    await context.writeFile(path.join(folder, name, 'SKILL.md'), `${front({ name, description })}\n${content}\n`)
  }
}

/** Writes `<folder>/<subagent>.md` for each subagent of the turn, with what else its harness wants to be told. */
export async function writeSubagents(
  turn: Turn,
  context: TurnContext,
  { folder, fields = {} }: { folder: string; fields?: Readonly<Record<string, string>> },
): Promise<void> {
  for (const [name, { description, prompt }] of Object.entries(turn.subagents)) {
    await context.writeFile(path.join(folder, `${name}.md`), `${front({ name, description, ...fields })}\n${prompt}\n`)
  }
}
