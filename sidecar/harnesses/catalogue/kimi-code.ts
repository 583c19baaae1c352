import { agentFile, type Extension, type Harness, placeholder, skillFile } from '../harness.ts'

const files = (extension: Extension): Readonly<Record<string, string>> => ({
  '.kimi-code/mcp.json': JSON.stringify({ mcpServers: { probe: extension.mcp } }),
  ...skillFile('.agents/skills', extension),
  ...agentFile('.kimi-code/agents', extension),
})

export const kimiCode: Harness = {
  id: 'kimi-code',
  aliases: ['kimi'],
  label: 'Kimi Code',
  command: 'kimi',
  routes: ['http-server', 'acp'],
  modelsApi: 'openai-chat',
  credentialLocations: ['.kimi-code/', '.kimi/', '.config/kimi/'],
  credentialEnv: ['KIMI_API_KEY', 'KIMI_MODEL_API_KEY', 'MOONSHOT_API_KEY'],
  turn: ({ modelUrl, prompt, extension }) => ({
    argv: ['-p', prompt, '--output-format', 'stream-json'],
    env: {
      KIMI_MODEL_NAME: 'scripted',
      KIMI_MODEL_API_KEY: placeholder,
      KIMI_MODEL_BASE_URL: `${modelUrl}/v1`,
      KIMI_DISABLE_TELEMETRY: '1',
      KIMI_CODE_NO_AUTO_UPDATE: '1',
      KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: '1',
    },
    files: extension ? files(extension) : {},
  }),
}
