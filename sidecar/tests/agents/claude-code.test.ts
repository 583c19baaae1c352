import { harnessContract } from './harness.contract.ts'

harnessContract({
  id: 'claude-code',
  program: 'claude',
  credentials: (url) => ({ ANTHROPIC_BASE_URL: url, ANTHROPIC_AUTH_TOKEN: 'scripted-token-of-claude' }),
  sessions: '.claude/projects',
})
