import { harnessContract } from './harness.contract.ts'

harnessContract({
  id: 'opencode',
  program: 'opencode',
  credentials: (url) => ({ ANTHROPIC_API_KEY: 'scripted-key-of-opencode', ANTHROPIC_BASE_URL: url }),
})
