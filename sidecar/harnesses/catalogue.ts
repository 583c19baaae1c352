// The harnesses that an image can have: what is known of each, and how one turn of it is run without a person.

/** What a headless turn shall do, and which model it talks to. */
export interface TurnRequest {
  readonly modelUrl: string
  readonly prompt: string
}

export interface Turn {
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** By path in the home folder. */
  readonly files: Readonly<Record<string, string>>
}

export interface Harness {
  readonly id: string
  /** What people and older clients call it too. */
  readonly aliases: readonly string[]
  readonly label: string
  readonly command: string
  /** Ways of driving it, the best first. */
  readonly routes: readonly string[]
  readonly modelsApi: string
  /** In the user's home; folders end in a slash. */
  readonly credentialLocations: readonly string[]
  readonly credentialEnv: readonly string[]
  /** What its extensions are read from; each was seen to work with the pinned version. */
  readonly extensions: { readonly mcp: boolean; readonly skills: boolean; readonly subagents: boolean }
  readonly turn: (place: TurnRequest) => Turn
}

const everyExtension = { mcp: true, skills: true, subagents: true }
const key = 'placeholder'

const claudeCode: Harness = {
  id: 'claude-code',
  aliases: ['claude'],
  label: 'Claude Code',
  command: 'claude',
  routes: ['stream-json'],
  modelsApi: 'anthropic-messages',
  credentialLocations: ['.claude/', '.claude.json'],
  credentialEnv: ['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'CLAUDE_CODE_OAUTH_TOKEN'],
  extensions: everyExtension,
  turn: ({ modelUrl, prompt }) => ({
    argv: ['-p', prompt, '--output-format', 'stream-json', '--verbose', '--dangerously-skip-permissions'],
    env: {
      ANTHROPIC_BASE_URL: modelUrl,
      ANTHROPIC_AUTH_TOKEN: key,
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
      CLAUDE_CODE_MAX_RETRIES: '0',
    },
    files: {},
  }),
}

const codexConfig = (modelUrl: string): string => `model = "gpt-5.5"
model_provider = "probe"
check_for_update_on_startup = false
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.probe]
name = "probe"
base_url = "${modelUrl}/v1"
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
`

const codex: Harness = {
  id: 'codex',
  aliases: [],
  label: 'Codex',
  command: 'codex',
  routes: ['app-server', 'exec-json'],
  modelsApi: 'openai-responses',
  credentialLocations: ['.codex/'],
  credentialEnv: ['OPENAI_API_KEY', 'CODEX_API_KEY'],
  extensions: everyExtension,
  turn: ({ modelUrl, prompt }) => ({
    argv: ['exec', '--json', '--skip-git-repo-check', '--dangerously-bypass-approvals-and-sandbox', prompt],
    env: { PROBE_KEY: key },
    files: { '.codex/config.toml': codexConfig(modelUrl) },
  }),
}

const opencodeConfig = (modelUrl: string): object => ({
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
})

const opencode: Harness = {
  id: 'opencode',
  aliases: [],
  label: 'OpenCode',
  command: 'opencode',
  routes: ['http-server', 'acp'],
  modelsApi: 'openai-chat',
  credentialLocations: ['.config/opencode/', '.local/share/opencode/auth.json'],
  credentialEnv: ['ANTHROPIC_API_KEY', 'OPENAI_API_KEY', 'GEMINI_API_KEY', 'OPENROUTER_API_KEY'],
  extensions: everyExtension,
  turn: ({ modelUrl, prompt }) => ({
    argv: ['run', '--format', 'json', '--auto', '--title', 'probe', prompt],
    env: {
      PROBE_KEY: key,
      OPENCODE_CONFIG_CONTENT: JSON.stringify(opencodeConfig(modelUrl)),
      OPENCODE_DISABLE_MODELS_FETCH: '1',
      OPENCODE_DISABLE_AUTOUPDATE: '1',
    },
    files: {},
  }),
}

const kimiCode: Harness = {
  id: 'kimi-code',
  aliases: ['kimi'],
  label: 'Kimi Code',
  command: 'kimi',
  routes: ['http-server', 'acp'],
  modelsApi: 'openai-chat',
  credentialLocations: ['.kimi-code/', '.kimi/', '.config/kimi/'],
  credentialEnv: ['KIMI_API_KEY', 'KIMI_MODEL_API_KEY', 'MOONSHOT_API_KEY'],
  extensions: everyExtension,
  turn: ({ modelUrl, prompt }) => ({
    argv: ['-p', prompt, '--output-format', 'stream-json'],
    env: {
      KIMI_MODEL_NAME: 'scripted',
      KIMI_MODEL_API_KEY: key,
      KIMI_MODEL_BASE_URL: `${modelUrl}/v1`,
      KIMI_DISABLE_TELEMETRY: '1',
      KIMI_CODE_NO_AUTO_UPDATE: '1',
      KIMI_LOOP_MAX_ATTEMPTS_PER_STEP: '1',
    },
    files: {},
  }),
}

const geminiSettings = {
  security: { auth: { selectedType: 'gemini-api-key' }, folderTrust: { enabled: false } },
  privacy: { usageStatisticsEnabled: false },
  telemetry: { enabled: false },
  general: { enableAutoUpdate: false, enableAutoUpdateNotification: false, maxAttempts: 1, sessionRetention: { enabled: false } },
}

const gemini: Harness = {
  id: 'gemini',
  aliases: [],
  label: 'Gemini CLI',
  command: 'gemini',
  routes: ['acp', 'stream-json'],
  modelsApi: 'gemini',
  credentialLocations: ['.gemini/'],
  credentialEnv: ['GEMINI_API_KEY', 'GOOGLE_API_KEY'],
  extensions: everyExtension,
  turn: ({ modelUrl, prompt }) => ({
    argv: ['-p', prompt, '-o', 'stream-json', '--yolo', '--skip-trust', '-m', 'gemini-3.8-flash'],
    env: { GOOGLE_GEMINI_BASE_URL: modelUrl, GEMINI_API_KEY: key, GEMINI_CLI_NO_RELAUNCH: 'true' },
    files: { '.gemini/settings.json': JSON.stringify(geminiSettings) },
  }),
}

export const catalogue: readonly Harness[] = [claudeCode, codex, opencode, kimiCode, gemini]

/** By id or another name of it. */
export const findHarness = (name: string): Harness | undefined => catalogue.find(({ id, aliases }) => id === name || aliases.includes(name))
