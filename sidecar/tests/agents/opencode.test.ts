import { harnessContract } from './harness.contract.ts'
import { ownSetup } from './own-setup.ts'

harnessContract({
  id: 'opencode',
  hidesArguments: true,
  program: 'opencode',
  credentials: (url) => ({ ANTHROPIC_API_KEY: 'scripted-key-of-opencode', ANTHROPIC_BASE_URL: url }),
})

ownSetup({
  id: 'opencode',
  program: 'opencode',
  files: (url) => ({
    '.config/opencode/opencode.json': JSON.stringify({
      // Which opencode adds where it is missing.
      $schema: 'https://opencode.ai/config.json',
      model: 'own/own-model',
      provider: {
        own: {
          npm: '@ai-sdk/openai-compatible',
          options: { baseURL: `${url}/v1`, apiKey: 'own-key' },
          models: { 'own-model': { tool_call: true, limit: { context: 200_000, output: 32_000 } } },
        },
      },
    }),
  }),
  skills: '.config/opencode/skills',
})
