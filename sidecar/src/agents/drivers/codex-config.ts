// Settings of a Codex thread that hold for one turn.
import path from 'node:path'
import type { Turn, TurnContext } from '../harness.ts'
import { type Json, list, record } from './json.ts'

export const keyNames = ['OPENAI_API_KEY', 'CODEX_API_KEY'] as const
const provider = 'atoll'

/** The built-in provider would ignore the address, and try another protocol first. Without a key, the user's own configuration holds. */
export function providerConfig(env: TurnContext['env']): Json {
  const key = keyNames.find((name) => env[name])
  if (key === undefined) return {}
  const settings = {
    name: provider,
    base_url: env['OPENAI_BASE_URL'] || 'https://api.openai.com/v1',
    env_key: key,
    wire_api: 'responses',
    request_max_retries: 1,
    stream_max_retries: 1,
  }
  return { model_provider: provider, model_providers: { [provider]: settings } }
}

/** A JSON string is a TOML string but for one character. */
const toml = (value: string): string => JSON.stringify(value).replaceAll('\u007f', String.raw`\u007f`)

export async function agentsConfig(turn: Turn, context: TurnContext): Promise<Json> {
  const agents: Record<string, object> = {}
  for (const [name, { description, prompt }] of Object.entries(turn.subagents)) {
    const file = path.join(context.scratch, 'agents', `${name}.toml`)
    const lines = [`name = ${toml(name)}`, `description = ${toml(description)}`, `developer_instructions = ${toml(prompt)}`]
    await context.writeFile(file, `${lines.join('\n')}\n`)
    agents[name] = { description, config_file: file }
  }
  return Object.keys(agents).length === 0 ? {} : { agents }
}

export function serversConfig({ mcpServers }: Turn): Json {
  const servers = Object.entries(mcpServers).map(([name, server]) => [
    name,
    'url' in server ? { url: server.url, http_headers: server.headers } : { ...server },
  ])
  return servers.length === 0 ? {} : { mcp_servers: Object.fromEntries(servers) }
}

/**
 * Codex is told by a variable what to log, which is nothing to the commands that it runs: they get that of the run, if any.
 * @param theirs what the user's own settings say of the variables of commands
 */
export function shellConfig(theirs: Json, { RUST_LOG: own }: TurnContext['env']): Json {
  if (own !== undefined) return { 'shell_environment_policy.set': { ...record(theirs['set']), RUST_LOG: own } }
  return { 'shell_environment_policy.exclude': [...list(theirs['exclude']), 'RUST_LOG'] }
}
