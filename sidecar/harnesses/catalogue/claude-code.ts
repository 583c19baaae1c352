import { agentFile, type Extension, type Harness, placeholder, skillFile } from '../harness.ts'

const extensionArguments = ({ mcp }: Extension): string[] => ['--mcp-config', JSON.stringify({ mcpServers: { probe: mcp } })]

export const claudeCode: Harness = {
  id: 'claude-code',
  aliases: ['claude'],
  label: 'Claude Code',
  command: 'claude',
  routes: ['stream-json'],
  modelsApi: 'anthropic-messages',
  credentialLocations: ['.claude/', '.claude.json'],
  credentialEnv: ['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'CLAUDE_CODE_OAUTH_TOKEN'],
  turn: ({ modelUrl, prompt, extension }) => ({
    argv: [
      ...['-p', prompt, '--output-format', 'stream-json', '--verbose', '--dangerously-skip-permissions'],
      ...(extension ? extensionArguments(extension) : []),
    ],
    env: {
      ANTHROPIC_BASE_URL: modelUrl,
      ANTHROPIC_AUTH_TOKEN: placeholder,
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
      CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: '1',
      CLAUDE_CODE_MAX_RETRIES: '0',
      ENABLE_TOOL_SEARCH: 'false',
    },
    files: extension ? { ...skillFile('.claude/skills', extension), ...agentFile('.claude/agents', extension) } : {},
  }),
}
