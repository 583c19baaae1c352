// What a turn of Claude Code took. It counts subagents only in its totals, and those over all turns of a conversation, so that what the
// turns before took has to be remembered.
import path from 'node:path'
import type { Usage } from '@atoll/protocol'
import type { TurnContext } from '../harness.ts'
import { count, type Json, maybeNumber, record } from './json.ts'

const memory = '.cache/atoll/claude-code'
const kinds = ['input', 'output', 'cache_read', 'cache_write', 'reasoning', 'cost_usd'] as const
type Totals = Record<(typeof kinds)[number], number>

/** Of one answer, or of a turn without its subagents. */
export const claudeUsage = (usage: Json): Usage => ({
  input: count(usage['input_tokens']),
  output: count(usage['output_tokens']),
  cache_read: count(usage['cache_read_input_tokens']),
  cache_write: count(usage['cache_creation_input_tokens']),
  reasoning: count(record(usage['output_tokens_details'])['thinking_tokens']),
})

function totalsOf(result: Json): Totals {
  const models = Object.values(record(result['modelUsage'])).map(record)
  const sum = (name: string): number => models.reduce((total, model) => total + count(model[name]), 0)
  return {
    input: sum('inputTokens'),
    output: sum('outputTokens'),
    cache_read: sum('cacheReadInputTokens'),
    cache_write: sum('cacheCreationInputTokens'),
    reasoning: sum('thinkingTokens'),
    cost_usd: count(result['total_cost_usd']),
  }
}

const less = (totals: Totals, before: Json): Totals => {
  const rest = { ...totals }
  for (const kind of kinds) rest[kind] = Math.max(0, totals[kind] - count(before[kind]))
  return rest
}

async function totalsBefore(file: string, context: TurnContext): Promise<Json | undefined> {
  const text = await context.readFile(file)
  try {
    return text === undefined ? undefined : record(JSON.parse(text))
  } catch {
    // Written by somebody else.
    return undefined
  }
}

/** Tells what the turn took, from its result. */
export async function tellUsage(result: Json, context: TurnContext, isResumed: boolean): Promise<void> {
  const file = path.join(context.home, memory, `${String(result['session_id'])}.json`)
  const totals = totalsOf(result)
  const before = isResumed ? await totalsBefore(file, context) : {}
  if (before) context.emit({ type: 'usage', scope: 'run', ...less(totals, before) })
  else if (maybeNumber(record(result['usage'])['input_tokens']) !== undefined) {
    context.emit({ type: 'usage', scope: 'run', ...claudeUsage(record(result['usage'])) })
  }
  await context.writeFile(file, JSON.stringify(totals))
}
