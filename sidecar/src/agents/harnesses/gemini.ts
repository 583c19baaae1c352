// Gemini CLI over ACP, its one interface with thoughts, questions and cancellation.
import path from 'node:path'
import { runAcpTurn } from '../drivers/acp.ts'
import { writeSkills, writeSubagents } from '../drivers/definitions.ts'
import { count, type Json, record, text } from '../drivers/json.ts'
import { readRecords, tellBrokenServers } from '../drivers/side-log.ts'
import { standIn } from '../drivers/stand-in.ts'
import { verbatim } from '../drivers/verbatim.ts'
import type { Harness, Turn, TurnContext, TurnEnd } from '../harness.ts'
import { agentError } from '../harness-error.ts'

/** It looks for commands behind white space too; a space without width is none to it, and nothing to its models. */
const asText = { command: /^\s*[/$]/, before: '\u200b' }

/** Where users keep credentials of their own, in their home. */
const ownFiles: readonly string[] = ['.gemini/oauth_creds.json', '.gemini/gemini-credentials.json', '.gemini/.env']

const keyOf = (env: Readonly<Record<string, string>>): string | undefined => env['GEMINI_API_KEY'] || env['GOOGLE_API_KEY']

/** What must hold for every turn, whatever the user's own settings say. */
const settingsOf = (turn: Turn, { env }: TurnContext, instructions: string): Json => ({
  security: { folderTrust: { enabled: false }, ...(keyOf(env) && { auth: { selectedType: 'gemini-api-key' } }) },
  privacy: { usageStatisticsEnabled: false },
  telemetry: { enabled: false },
  general: {
    enableAutoUpdate: false,
    enableAutoUpdateNotification: false,
    // The default tries for minutes.
    maxAttempts: 2,
    // Its clean-up takes sessions that were gone on with for empty ones.
    sessionRetention: { enabled: false },
  },
  ...(turn.maxTurns > 0 && { model: { maxSessionTurns: turn.maxTurns } }),
  ...(turn.systemPrompt !== '' && { context: { includeDirectories: [instructions], loadMemoryFromIncludeDirectories: true } }),
})

function merge(under: Json, over: Json): Json {
  const merged = { ...under }
  for (const [name, value] of Object.entries(over))
    merged[name] = Object.keys(record(value)).length > 0 ? merge(record(under[name]), record(value)) : value
  return merged
}

/** The user's settings may have comments. Undefined: they are not JSON. */
function parseSettings(text: string): Json | undefined {
  const bare = text.replaceAll(/("(?:[^"\\]|\\.)*")|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, '$1')
  try {
    return record(JSON.parse(bare))
  } catch {
    return undefined
  }
}

/**
 * A session is kept in a file named after the minute of its start. Gone on with in that very minute, it would be begun anew in the
 * same file, and its history be lost; so it gets the name of another time. What is begun beside it in a later minute stays empty, and
 * goes, for the program takes both for empty when it next tidies up; so does the session that it begins at each start and never uses.
 */
const tidy = `
  for file in "$0"/tmp/*/chats/session-*-"$1".jsonl; do
    old=\${file%/*}/session-2000-01-01T00-00-$1.jsonl
    [ "$file" = "$old" ] || [ ! -e "$file" ] || { [ -e "$old" ] && rm "$file" || mv "$file" "$old"; }
  done
  rm -f "$0"/tmp/*/chats/session-*-"$2".jsonl`

/**
 * Says so of a session that holds nothing. A turn that failed or was cancelled before the model had answered is taken out of the history,
 * and a session without any other cannot be opened again.
 */
const emptiness = `
  for file in "$0"/tmp/*/chats/session-*-"$1".jsonl; do
    [ ! -e "$file" ] || awk '/"[$]set":{"messages"/ { any = 0 } /"type":"gemini"/ { any = 1 } END { if (!any) print "{}" }' "$file"
  done`

/** Answers of the model to the session and its subagents. */
const answers = `tail -q -c 8388608 "$0"/tmp/*/chats/session-*-"$1".jsonl "$0"/tmp/*/chats/"$2"/*.jsonl | grep '"tokens":{'`

const shortId = (sessionId: string): string => sessionId.slice(0, 8)

async function tellUsage(
  context: TurnContext,
  { own, sessionId, since }: { own: string; sessionId: string; since: number },
): Promise<void> {
  const records = await readRecords(context, answers, own, shortId(sessionId), sessionId)
  const recent = records.filter((one) => Date.parse(text(one['timestamp'])) >= since)
  // A record is written again when it grows.
  for (const answer of new Map(recent.map((one) => [one['id'], one])).values()) {
    const tokens = record(answer['tokens'])
    const [cached, thoughts] = [count(tokens['cached']), count(tokens['thoughts'])]
    context.emit({
      type: 'usage',
      scope: 'step',
      input: count(tokens['input']) + count(tokens['tool']) - cached,
      output: count(tokens['output']) + thoughts,
      cache_read: cached,
      cache_write: 0,
      reasoning: thoughts,
    })
  }
}

/** A folder for this run that stands in for the user's. Undefined: the user's settings are not JSON. */
async function furnish(turn: Turn, context: TurnContext, own: string): Promise<string | undefined> {
  const place = path.join(context.scratch, 'gemini')
  const folder = path.join(place, '.gemini')
  const instructions = path.join(context.scratch, 'instructions')
  const [text] = await Promise.all([
    context.readFile(path.join(own, 'settings.json')),
    // Settings of the system, which would do, must belong to root.
    standIn(context, {
      own,
      place: folder,
      kept: ['tmp', 'history'],
      replaced: ['settings.json', 'projects.json'],
      extended: ['skills', 'agents'],
    }),
  ])
  const settings = parseSettings(text ?? '{}')
  if (!settings) return undefined
  await Promise.all([
    context.writeFile(path.join(folder, 'settings.json'), JSON.stringify(merge(settings, settingsOf(turn, context, instructions)))),
    turn.systemPrompt === '' || context.writeFile(path.join(instructions, 'GEMINI.md'), turn.systemPrompt),
    writeSkills(turn, context, path.join(folder, 'skills')),
    writeSubagents(turn, context, { folder: path.join(folder, 'agents') }),
  ])
  return place
}

const brokenServer = /Error during discovery for MCP server '(?<name>.+?)': (?<message>.*?)(?: \w*Error: .*)?$/

const debugLog = ({ scratch }: TurnContext): string => path.join(scratch, 'gemini-debug.log')

/** Nothing but what it writes for those who look for faults in it says that a server does not work. */
const tellServers = (turn: Turn, context: TurnContext): Promise<void> =>
  tellBrokenServers(context, turn, {
    log: debugLog(context),
    word: 'Error during discovery for MCP server',
    read: (line) => {
      const { name, message = '' } = brokenServer.exec(line)?.groups ?? {}
      return name === undefined ? undefined : { name, message }
    },
  })

async function run(turn: Turn, context: TurnContext): Promise<TurnEnd> {
  const { env, home } = context
  const own = path.join(env['GEMINI_CLI_HOME'] ?? home, '.gemini')
  const unused = crypto.randomUUID()
  const look = (command: string, sessionId: string) => readRecords(context, command, own, shortId(sessionId), shortId(unused))
  const earlier = turn.nativeSessionId
  const [place, nothing] = await Promise.all([furnish(turn, context, own), earlier === undefined ? [] : look(tidy + emptiness, earlier)])
  if (place === undefined)
    return { outcome: 'failed', error: agentError('config', `${path.join(own, 'settings.json')} is not valid JSON.`) }
  const isEmpty = nothing.length > 0
  const since = Date.now()
  let sessionId: string | undefined
  const isAsking = turn.permissionMode === 'ask'
  return runAcpTurn(isEmpty ? { ...turn, nativeSessionId: undefined } : turn, context, {
    argv: ['gemini', '--acp', '--session-id', unused, ...(isAsking ? [] : ['--yolo']), ...(turn.model ? ['-m', turn.model] : [])],
    env: {
      ...(keyOf(env) && { GEMINI_API_KEY: keyOf(env) }),
      GEMINI_CLI_HOME: place,
      GEMINI_CLI_TRUST_WORKSPACE: 'true',
      // Without it, it runs in a child that no signal reaches.
      GEMINI_CLI_NO_RELAUNCH: 'true',
      ...(Object.keys(turn.mcpServers).length > 0 && { GEMINI_DEBUG_LOG_FILE: debugLog(context) }),
    },
    modes: [],
    choosesModel: true,
    toolName: ({ toolCallId }) => /^(?<name>.+?)__/.exec(toolCallId)?.groups?.['name'],
    prompt: verbatim(turn.prompt, asText),
    // Nor does the interface of its models.
    hidesArguments: true,
    quietMs: 200,
    // It writes everything at once, and does not end by itself while it has MCP servers.
    patienceMs: 100,
    opened: (id) => {
      sessionId = id
    },
    closing: async (end) => {
      await tellServers(turn, context)
      if (sessionId === undefined) return end
      await tellUsage(context, { own, sessionId, since })
      await look(tidy, sessionId)
      return end
    },
  })
}

export const gemini: Harness = {
  id: 'gemini',
  label: 'Gemini CLI',
  command: 'gemini',
  mcp: true,
  skills: true,
  subagents: true,
  credentialEnv: ['GEMINI_API_KEY', 'GOOGLE_API_KEY', 'GOOGLE_GEMINI_BASE_URL'],
  hasCredentials: (env, hasFile) => Boolean(keyOf(env)) || ownFiles.some((file) => hasFile(file)),
  turn: run,
}
