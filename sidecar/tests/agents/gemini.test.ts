import { harnessContract } from './harness.contract.ts'
import { ownSetup } from './own-setup.ts'

harnessContract({
  id: 'gemini',
  program: 'gemini',
  credentials: (url) => ({ GEMINI_API_KEY: 'scripted-key-of-gemini', GOOGLE_GEMINI_BASE_URL: url }),
})

ownSetup({
  id: 'gemini',
  program: 'gemini',
  files: (url) => ({
    '.gemini/.env': `GEMINI_API_KEY=own-key\nGOOGLE_GEMINI_BASE_URL=${url}\n`,
    '.gemini/settings.json': `{
      // Comments are allowed here, also behind "https://slashes".
      "security": { "auth": { "selectedType": "gemini-api-key" } },
      "model": { "name": "own-model" /* of the user */ }
    }`,
  }),
  skills: '.gemini/skills',
})
