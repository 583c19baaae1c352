import { agentName, type Extension, type Harness, placeholder, skillFile, type TurnRequest } from '../harness.ts'

const text = (value: string): string => JSON.stringify(value)

/** A model that the harness does not know gets the plain tools, those for sub-agents among them. */
const config = ({ modelUrl, extension }: TurnRequest): string => `model = ${text(extension ? 'scripted' : 'gpt-5.5')}
model_provider = "probe"
check_for_update_on_startup = false
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.probe]
name = "probe"
base_url = ${text(`${modelUrl}/v1`)}
env_key = "PROBE_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
[features]
plugins = false
apps = false
unbounded_connection_retries = false
[analytics]
enabled = false
${extension ? mcpServer(extension) : ''}`

const mcpServer = ({ mcp }: Extension): string => `[mcp_servers.probe]
command = ${text(mcp.command)}
args = [${mcp.args.map(text).join(', ')}]
`

const agent = ({ instructions }: Extension): string => `name = ${text(agentName)}
description = "Proves that this works."
developer_instructions = ${text(instructions)}
`

export const codex: Harness = {
  id: 'codex',
  aliases: [],
  label: 'Codex',
  command: 'codex',
  routes: ['app-server', 'exec-json'],
  modelsApi: 'openai-responses',
  credentialLocations: ['.codex/'],
  credentialEnv: ['OPENAI_API_KEY', 'CODEX_API_KEY'],
  turn: (request) => ({
    argv: ['exec', '--json', '--skip-git-repo-check', '--dangerously-bypass-approvals-and-sandbox', request.prompt],
    env: { PROBE_KEY: placeholder },
    files: {
      '.codex/config.toml': config(request),
      ...(request.extension && {
        ...skillFile('.agents/skills', request.extension),
        [`.codex/agents/${agentName}.toml`]: agent(request.extension),
      }),
    },
  }),
}
