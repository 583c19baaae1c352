// Kimi Code over ACP: it needs no port, asks, cancels, and takes MCP servers for one session. Its web server tells more, but is one
// for all sessions of a home. ACP says neither tokens nor most errors of the model; the log that the program keeps of a session does.
import path from 'node:path'
import type { AgentError } from '@atoll/protocol'
import { type AcpEnd, runAcpTurn, withInstructions } from '../drivers/acp.ts'
import { writeSkills, writeSubagents } from '../drivers/definitions.ts'
import { count, type Json, record, text } from '../drivers/json.ts'
import { errorOfMessage } from '../drivers/model-errors.ts'
import { followRecords, readRecords, tellBrokenServers } from '../drivers/side-log.ts'
import { standIn } from '../drivers/stand-in.ts'
import { verbatim } from '../drivers/verbatim.ts'
import type { Harness, Turn, TurnContext, TurnEnd } from '../harness.ts'
import { agentError, providerError } from '../harness-error.ts'

const keyOf = (env: Readonly<Record<string, string>>): string | undefined => env['KIMI_API_KEY'] || env['MOONSHOT_API_KEY']
const ownFolder = ({ env, home }: TurnContext): string => env['KIMI_CODE_HOME'] ?? path.join(home, '.kimi-code')

/** A provider may ask for any patience. */
const maxRetryDelayMs = 10_000
/** Where nobody names a model. */
const defaultModel = 'kimi-latest'

/** The model by environment, unless the user has set one up and nobody wants another. */
async function modelEnv(turn: Turn, context: TurnContext): Promise<Record<string, string>> {
  const { env } = context
  const key = keyOf(env)
  const model = turn.model || env['KIMI_MODEL_NAME']
  if (!key || (!model && (await context.readFile(path.join(ownFolder(context), 'config.toml'))) !== undefined)) return {}
  const base = env['KIMI_BASE_URL']
  return { KIMI_MODEL_NAME: model || defaultModel, KIMI_MODEL_API_KEY: key, ...(base && { KIMI_MODEL_BASE_URL: base }) }
}

/** The folder of the program's own files, with what only this turn has. */
async function furnish(turn: Turn, context: TurnContext): Promise<string> {
  const own = ownFolder(context)
  const hasExtras = turn.systemPrompt !== '' || Object.keys(turn.skills).length > 0 || Object.keys(turn.subagents).length > 0
  if (!hasExtras) return own
  const place = path.join(context.scratch, 'kimi-code')
  const instructions = 'AGENTS.md'
  await standIn(context, {
    own,
    place,
    kept: ['sessions', 'credentials', 'logs', 'file-history'],
    replaced: [instructions],
    extended: ['skills', 'agents'],
  })
  const theirs = await context.readFile(path.join(own, instructions))
  await context.writeFile(path.join(place, instructions), [theirs, turn.systemPrompt].filter(Boolean).join('\n\n'))
  await writeSkills(turn, context, path.join(place, 'skills'))
  await writeSubagents(turn, context, { folder: path.join(place, 'agents') })
  return place
}

/** The log of a session, from a little before now on. */
const news = `
  while sleep 0.05; do
    for folder in "$0"/sessions/*/"$1"; do [ ! -d "$folder" ] || exec tail -c 65536 -F "$folder/agents/main/wire.jsonl"; done
  done`

/** The logs of a session and its subagents. */
const logs = `tail -q -c 8388608 "$0"/sessions/*/"$1"/agents/*/wire.jsonl | grep -E '"type":"(usage\\.record|turn\\.ended)"'`

function errorOfRetry(retry: Json): AgentError {
  const [status, message] = [count(retry['statusCode']), text(retry['errorMessage'])]
  return status > 0 ? providerError(status, message) : errorOfMessage(message)
}

function tellRetry(context: TurnContext, retry: Json): void {
  const status = count(retry['statusCode'])
  context.emit({
    type: 'retry',
    attempt: count(retry['failedAttempt']),
    delay_ms: Math.round(count(retry['delayMs'])),
    ...(status > 0 && { http_status: status }),
    message: text(retry['errorMessage']),
  })
}

const codes: Readonly<Record<string, AgentError['code']>> = {
  'provider.auth_error': 'auth',
  'provider.rate_limit': 'rate_limit',
  'provider.connection_error': 'network',
  'provider.overloaded': 'overloaded',
  'compaction.failed': 'context',
}

function errorIn(ended: Json): AgentError | undefined {
  if (ended['reason'] !== 'failed') return undefined
  const error = record(ended['error'])
  const message = text(error['message']) || 'The turn failed.'
  const status = count(record(error['details'])['statusCode'])
  if (status > 0) return providerError(status, message)
  const code = codes[text(error['code'])]
  return code ? agentError(code, message) : errorOfMessage(message)
}

/** What the log says about the turn that has ended. */
async function tellRest(
  context: TurnContext,
  { sessionId, since }: { sessionId: string; since: number },
): Promise<AgentError | 'max_turns' | undefined> {
  const records = await readRecords(context, logs, ownFolder(context), sessionId)
  let last: Json = {}
  for (const entry of records.filter((one) => count(one['time']) >= since)) {
    if (entry['type'] === 'usage.record') {
      const usage = record(entry['usage'])
      context.emit({
        type: 'usage',
        scope: 'step',
        input: count(usage['inputOther']),
        output: count(usage['output']),
        cache_read: count(usage['inputCacheRead']),
        cache_write: count(usage['inputCacheCreation']),
        reasoning: 0,
      })
    } else if (entry['agentId'] === 'main') last = entry
  }
  return text(record(last['error'])['code']) === 'loop.max_steps_exceeded' ? 'max_turns' : errorIn(last)
}

/** A line of the program's own log, which all of its sessions share. */
const brokenServer = /^(?<at>\S+) .* server=(?<name>"(?:[^"\\]|\\.)*"|\S+) .*reason=(?<reason>"(?:[^"\\]|\\.)*"|\S+)/
const bare = (value = ''): string => value.replaceAll(/^"|"$/g, '')

const tellServers = (turn: Turn, context: TurnContext, since: number): Promise<void> =>
  tellBrokenServers(context, turn, {
    log: path.join(ownFolder(context), 'logs/kimi-code.log'),
    word: 'mcp server unavailable',
    read: (line) => {
      const { at = '', name, reason } = brokenServer.exec(line)?.groups ?? {}
      return Date.parse(at) >= since ? { name: bare(name), message: bare(reason) } : undefined
    },
  })

/** What ended the turn for a reason that the log does not know. */
const isOurs = ({ outcome, error }: AcpEnd): boolean => outcome === 'cancelled' || error?.code === 'timeout' || error?.code === 'lost'

async function run(turn: Turn, context: TurnContext): Promise<TurnEnd> {
  const model = await modelEnv(turn, context)
  const folder = await furnish(turn, context)
  const since = Date.now()
  let sessionId: string | undefined
  let following: Promise<() => void> | undefined
  return runAcpTurn(turn, context, {
    argv: ['kimi', 'acp'],
    env: {
      ...model,
      KIMI_CODE_HOME: folder,
      KIMI_DISABLE_TELEMETRY: '1',
      KIMI_CODE_NO_AUTO_UPDATE: '1',
      KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: '3',
      ...(turn.maxTurns > 0 && { KIMI_LOOP_MAX_STEPS_PER_TURN: String(turn.maxTurns) }),
    },
    modes: [turn.permissionMode === 'ask' ? 'default' : 'yolo'],
    choosesModel: 'KIMI_MODEL_NAME' in model,
    // A conversation keeps the system prompt that it began with.
    prompt: verbatim(turn.nativeSessionId === undefined ? turn.prompt : withInstructions(turn)),
    hidesArguments: false,
    opened: (id, fail) => {
      sessionId = id
      following = followRecords(context, [news, ownFolder(context), id], (entry) => {
        if (entry['type'] !== 'turn.step.retrying' || count(entry['time']) < since) return
        tellRetry(context, entry)
        if (count(entry['delayMs']) > maxRetryDelayMs) fail(errorOfRetry(entry))
      })
    },
    closing: async (end) => {
      const stopFollowing = await following
      stopFollowing?.()
      await tellServers(turn, context, since)
      if (sessionId === undefined) return end
      const found = await tellRest(context, { sessionId, since })
      if (found === undefined || isOurs(end)) return end
      return found === 'max_turns' ? { ...end, outcome: 'max_turns', error: undefined } : { ...end, outcome: 'failed', error: found }
    },
  })
}

export const kimiCode: Harness = {
  id: 'kimi-code',
  label: 'Kimi Code',
  command: 'kimi',
  mcp: true,
  skills: true,
  subagents: true,
  credentialEnv: ['KIMI_API_KEY', 'MOONSHOT_API_KEY', 'KIMI_BASE_URL', 'KIMI_MODEL_NAME'],
  hasCredentials: (env, hasFile) => Boolean(keyOf(env)) || hasFile('.kimi-code/config.toml'),
  turn: run,
}
