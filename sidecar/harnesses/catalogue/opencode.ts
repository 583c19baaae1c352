import { agentFile, type Extension, type Harness, placeholder, skillFile, type TurnRequest } from '../harness.ts'

const mcpServers = ({ mcp }: Extension): object => ({ probe: { type: 'local', command: [mcp.command, ...mcp.args], enabled: true } })

const config = ({ modelUrl, extension }: TurnRequest): object => ({
  model: 'probe/scripted',
  small_model: 'probe/scripted',
  autoupdate: false,
  share: 'disabled',
  enabled_providers: ['probe'],
  provider: {
    probe: {
      npm: '@ai-sdk/openai-compatible',
      name: 'probe',
      options: { baseURL: `${modelUrl}/v1`, apiKey: '{env:PROBE_KEY}' },
      models: { scripted: { name: 'scripted', tool_call: true, limit: { context: 200_000, output: 32_000 } } },
    },
  },
  ...(extension && { mcp: mcpServers(extension) }),
})

export const opencode: Harness = {
  id: 'opencode',
  aliases: [],
  label: 'opencode',
  command: 'opencode',
  routes: ['http-server', 'acp'],
  modelsApi: 'openai-chat',
  credentialLocations: ['.config/opencode/', '.local/share/opencode/auth.json'],
  credentialEnv: ['ANTHROPIC_API_KEY', 'OPENAI_API_KEY', 'GEMINI_API_KEY', 'OPENROUTER_API_KEY'],
  turn: (request) => ({
    argv: ['run', '--format', 'json', '--auto', '--title', 'probe', request.prompt],
    env: {
      PROBE_KEY: placeholder,
      OPENCODE_CONFIG_CONTENT: JSON.stringify(config(request)),
      OPENCODE_DISABLE_MODELS_FETCH: '1',
      OPENCODE_DISABLE_AUTOUPDATE: '1',
    },
    files: request.extension
      ? {
          ...skillFile('.agents/skills', request.extension),
          ...agentFile('.config/opencode/agent', request.extension, { mode: 'subagent' }),
        }
      : {},
  }),
}
