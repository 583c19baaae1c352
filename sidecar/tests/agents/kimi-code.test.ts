import { harnessContract } from './harness.contract.ts'
import { ownSetup } from './own-setup.ts'

harnessContract({
  id: 'kimi-code',
  program: 'kimi',
  credentials: (url) => ({ KIMI_API_KEY: 'scripted-key-of-kimi', KIMI_BASE_URL: `${url}/v1` }),
})

ownSetup({
  id: 'kimi-code',
  program: 'kimi',
  files: (url) => ({
    '.kimi-code/config.toml': `
default_model = "own/model"
[providers.own]
type = "openai"
base_url = "${url}/v1"
api_key = "own-key"
[models."own/model"]
provider = "own"
model = "own-model"
max_context_size = 200000
`,
  }),
  skills: '.kimi-code/skills',
})
