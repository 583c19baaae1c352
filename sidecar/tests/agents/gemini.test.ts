import { harnessContract } from './harness.contract.ts'

harnessContract({
  id: 'gemini',
  program: 'gemini',
  credentials: (url) => ({ GEMINI_API_KEY: 'scripted-key-of-gemini', GOOGLE_GEMINI_BASE_URL: url }),
})
