import { agentFile, type Extension, type Harness, placeholder, skillFile } from '../harness.ts'

const settings = (extension: Extension | undefined): object => ({
  security: { auth: { selectedType: 'gemini-api-key' }, folderTrust: { enabled: false } },
  privacy: { usageStatisticsEnabled: false },
  telemetry: { enabled: false },
  general: { enableAutoUpdate: false, enableAutoUpdateNotification: false, maxAttempts: 1, sessionRetention: { enabled: false } },
  ...(extension && { mcpServers: { probe: extension.mcp } }),
})

export const gemini: Harness = {
  id: 'gemini',
  aliases: [],
  label: 'Gemini CLI',
  command: 'gemini',
  routes: ['acp', 'stream-json'],
  modelsApi: 'gemini',
  credentialLocations: ['.gemini/'],
  credentialEnv: ['GEMINI_API_KEY', 'GOOGLE_API_KEY'],
  turn: ({ modelUrl, prompt, extension }) => ({
    argv: ['-p', prompt, '-o', 'stream-json', '--yolo', '--skip-trust', '-m', 'gemini-3.8-flash'],
    env: { GOOGLE_GEMINI_BASE_URL: modelUrl, GEMINI_API_KEY: placeholder, GEMINI_CLI_NO_RELAUNCH: 'true' },
    files: {
      '.gemini/settings.json': JSON.stringify(settings(extension)),
      ...(extension && { ...skillFile('.agents/skills', extension), ...agentFile('.gemini/agents', extension) }),
    },
  }),
}
