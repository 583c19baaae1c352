import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { startScriptedModel } from '../../scripted-model/server.ts'
import { assertWhole, startAgentSidecar } from './agent-client.ts'
import { harnessContract, programs } from './harness.contract.ts'
import { ownSetup } from './own-setup.ts'

harnessContract({
  id: 'gemini',
  hidesArguments: true,
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

const skip = existsSync(path.join(programs, 'gemini')) ? false : `gemini is not in ${programs}`

test('a conversation with gemini goes on after a first turn that failed', { skip }, async () => {
  await using server = await startScriptedModel()
  const agents = await startAgentSidecar({ env: { ATOLL_HARNESS_PROGRAMS: programs } })
  await using _ = agents.sidecar
  await agents.configure({ agents: { GEMINI_API_KEY: 'scripted-key-of-gemini', GOOGLE_GEMINI_BASE_URL: server.url } })
  const first = await agents.perform({ harness: 'gemini', model: 'scripted', prompt: '[[plan:err401]] try' })
  assert.equal(first.run.error?.code, 'auth')
  const second = await agents.perform({
    harness: 'gemini',
    model: 'scripted',
    prompt: '[[plan:text]] again',
    session_id: first.run.session_id,
  })
  assert.equal(assertWhole(second.events).outcome, 'completed', JSON.stringify(second.run.error))
})
