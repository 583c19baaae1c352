// Claude Code, one process for each turn, over its bidirectional JSON lines: the only route of its with deltas, questions and an interrupt.
import path from 'node:path'
import type { PermissionDecision } from '@atoll/protocol'
import { ClaudeEvents } from '../drivers/claude-events.ts'
import { tellUsage } from '../drivers/claude-usage.ts'
import { writeSkills } from '../drivers/definitions.ts'
import { type Json, list, maybeNumber, maybeText, record, text } from '../drivers/json.ts'
import { JsonLines } from '../drivers/json-lines.ts'
import { toolKind } from '../drivers/tool-kinds.ts'
import { verbatim } from '../drivers/verbatim.ts'
import type { Harness, Turn, TurnContext, TurnEnd } from '../harness.ts'
import { agentError, providerError } from '../harness-error.ts'

/** It would try ten times, for minutes, whatever the provider says. */
const retries = '2'

/** Writes what must not stand in the arguments, and answers the arguments that name it. */
async function prepare(turn: Turn, context: TurnContext): Promise<string[]> {
  const { scratch, writeFile } = context
  const argv: string[] = []
  const give = async (flag: string, name: string, content: string): Promise<void> => {
    const file = path.join(scratch, name)
    await writeFile(file, content)
    argv.push(flag, file)
  }
  if (turn.systemPrompt !== '') await give('--append-system-prompt-file', 'system-prompt.md', turn.systemPrompt)
  const servers = Object.entries(turn.mcpServers).map(([name, server]) => [name, 'url' in server ? { type: 'http', ...server } : server])
  if (servers.length > 0) await give('--mcp-config', 'mcp.json', JSON.stringify({ mcpServers: Object.fromEntries(servers) }))
  if (Object.keys(turn.subagents).length > 0) await give('--agents', 'agents.json', JSON.stringify(turn.subagents))
  if (Object.keys(turn.skills).length > 0) {
    await writeSkills(turn, context, path.join(scratch, 'more/.claude/skills'))
    argv.push('--add-dir', path.join(scratch, 'more'))
  }
  return argv
}

function argumentsOf(turn: Turn): string[] {
  return [
    ...['claude', '-p', '--input-format', 'stream-json', '--output-format', 'stream-json', '--verbose', '--include-partial-messages'],
    ...['--permission-prompt-tool', 'stdio', '--disallowedTools', 'AskUserQuestion'],
    ...(turn.permissionMode === 'auto' ? ['--dangerously-skip-permissions'] : ['--permission-mode', 'default']),
    ...(turn.model === '' ? [] : ['--model', turn.model]),
    ...(turn.maxTurns === 0 ? [] : ['--max-turns', String(turn.maxTurns)]),
    ...(turn.nativeSessionId === undefined ? [] : ['--resume', turn.nativeSessionId]),
  ]
}

function environmentOf({ env, scratch }: TurnContext): Record<string, string> {
  return {
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    // A subagent in the background would go on after the answer.
    CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: '1',
    CLAUDE_CODE_TMPDIR: scratch,
    CLAUDE_CODE_MAX_RETRIES: env['CLAUDE_CODE_MAX_RETRIES'] ?? retries,
    // Else the provider may hold an argument back until it has all of it, and nobody can tell that from an answer which has stopped.
    CLAUDE_CODE_ENABLE_FINE_GRAINED_TOOL_STREAMING: env['CLAUDE_CODE_ENABLE_FINE_GRAINED_TOOL_STREAMING'] ?? '1',
    // Servers that stand in for the provider's know no tools that are looked up later.
    ...(env['ANTHROPIC_BASE_URL'] && { ENABLE_TOOL_SEARCH: env['ENABLE_TOOL_SEARCH'] ?? 'false' }),
  }
}

class ClaudeTurn {
  readonly #context: TurnContext
  readonly #program: JsonLines
  readonly #events: ClaudeEvents

  constructor(context: TurnContext, program: JsonLines) {
    this.#context = context
    this.#program = program
    this.#events = new ClaudeEvents((event) => context.emit(event))
  }

  async run({ prompt, nativeSessionId }: Turn): Promise<TurnEnd> {
    const isResumed = nativeSessionId !== undefined
    const { signal } = this.#context
    const program = this.#program
    program.send({ type: 'control_request', request_id: 'initialize', request: { subtype: 'initialize', hooks: {} } })
    program.send({ type: 'user', message: { role: 'user', content: [{ type: 'text', text: verbatim(prompt) }] } })
    const interrupt = (): void => program.send({ type: 'control_request', request_id: 'interrupt', request: { subtype: 'interrupt' } })
    signal.addEventListener('abort', interrupt, { once: true })
    let end: TurnEnd | undefined
    for await (const message of program.messages()) {
      if (message['type'] === 'control_request') void this.#answer(message)
      else if (message['type'] === 'result') {
        end = this.#end(message)
        await tellUsage(message, this.#context, isResumed)
        program.endInput()
      } else this.#events.take(message)
    }
    signal.removeEventListener('abort', interrupt)
    return end ?? (await this.#lost())
  }

  /** Claude Code asks before it uses a tool. */
  async #answer(message: Json): Promise<void> {
    const request = record(message['request'])
    const respond = (response: object): void =>
      this.#program.send({ type: 'control_response', response: { subtype: 'success', request_id: message['request_id'], response } })
    if (request['subtype'] !== 'can_use_tool') return respond({})
    const name = text(request['tool_name'])
    const input = record(request['input'])
    const toolId = text(request['tool_use_id'])
    const decision: PermissionDecision = await this.#context.ask({ toolId, name, kind: toolKind(name) ?? 'other', input })
    if (decision === 'reject') {
      this.#events.deny(toolId)
      respond({ behavior: 'deny', message: 'The user does not allow this.' })
    } else respond({ behavior: 'allow', updatedInput: input })
  }

  #end(result: Json): TurnEnd {
    const said = text(result['result'])
    const stopReason = maybeText(result['stop_reason']) ?? maybeText(result['terminal_reason'])
    if (this.#context.signal.aborted) return { outcome: 'cancelled' }
    if (result['subtype'] === 'error_max_turns') return { outcome: 'max_turns', stopReason: 'max_turns' }
    if (result['is_error'] !== true) return { outcome: 'completed', text: said, stopReason }
    const message = said || list(result['errors']).map(String).join('\n') || this.#program.errors || 'Claude Code failed without a reason.'
    if (/No conversation found/.test(message)) return { outcome: 'failed', error: agentError('session_not_found', message) }
    const isOfModel =
      result['terminal_reason'] === 'api_error' || result['api_error_status'] !== undefined || this.#events.error !== undefined
    if (!isOfModel) return { outcome: 'failed', stopReason, error: agentError('internal', message) }
    return { outcome: 'failed', stopReason, error: providerError(maybeNumber(result['api_error_status']), message) }
  }

  /** It ended without a result. */
  async #lost(): Promise<TurnEnd> {
    if (this.#context.signal.aborted) return { outcome: 'cancelled' }
    const exit = await this.#program.exit
    const said = this.#program.errors
    if (/No conversation found/.test(said)) return { outcome: 'failed', error: agentError('session_not_found', said) }
    const how = exit.type === 'exited' ? `with status ${exit.code}` : 'by a signal'
    return { outcome: 'failed', error: agentError('lost', `Claude Code ended ${how} before it had answered. ${said}`.trim()) }
  }
}

export const claudeCode: Harness = {
  id: 'claude-code',
  label: 'Claude Code',
  command: 'claude',
  mcp: true,
  skills: true,
  subagents: true,
  credentialEnv: ['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'ANTHROPIC_BASE_URL'],
  hasCredentials: (env, hasFile) =>
    Boolean(env['ANTHROPIC_API_KEY'] || env['ANTHROPIC_AUTH_TOKEN']) || hasFile('.claude/.credentials.json'),
  turn: async (turn, context) => {
    const argv = [...argumentsOf(turn), ...(await prepare(turn, context))]
    const program = await JsonLines.start(context, { argv, env: environmentOf(context), cwd: turn.cwd })
    return new ClaudeTurn(context, program).run(turn)
  },
}
