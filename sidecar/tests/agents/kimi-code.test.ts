import { harnessContract } from './harness.contract.ts'

harnessContract({
  id: 'kimi-code',
  program: 'kimi',
  credentials: (url) => ({ KIMI_API_KEY: 'scripted-key-of-kimi', KIMI_BASE_URL: `${url}/v1` }),
})
