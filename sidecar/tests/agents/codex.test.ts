import { harnessContract } from './harness.contract.ts'

harnessContract({
  id: 'codex',
  program: 'codex',
  credentials: (url) => ({ OPENAI_BASE_URL: `${url}/v1`, OPENAI_API_KEY: 'scripted-key-of-codex' }),
  model: 'gpt-5.5',
  plainModel: 'scripted',
  sessions: '.codex/sessions',
})
