// The real coding agents, who know a placeholder and the sandbox's own loopback, and whose model is outside.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Atoll, type Sandbox } from '@atoll/sdk'
import { type ScriptedModel, startScriptedModel } from '../sidecar/scripted-model/server.ts'
import { testRuntimes } from './runtimes.ts'
import type { TestOperator } from './start-operator.ts'
import { startWithHarnesses } from './start-with-harnesses.ts'

const owner = 'gina'
const realKey = 'sk-real-0123456789abcdef'
/** With whose API each asks its model. */
const apis = { 'claude-code': 'anthropic', codex: 'openai', opencode: 'anthropic', 'kimi-code': 'moonshot', gemini: 'google' } as const

for (const { name: runtime, skip } of testRuntimes) {
  describe(`coding agents behind the gateway on ${runtime}`, { skip, timeout: 600_000 }, () => {
    let model: ScriptedModel
    let operator: TestOperator
    let sandbox: Sandbox

    before(
      async () => {
        model = await startScriptedModel()
        operator = await startWithHarnesses(runtime, () => ({ ATOLL_TRUSTED_UPSTREAMS: new URL(model.url).host }))
        const key = await operator.newKey(owner)
        for (const like of new Set(Object.values(apis))) {
          const base = like === 'anthropic' || like === 'google' ? model.url : `${model.url}/v1`
          const body = { key: realKey, base_url: base, like }
          const { status, text } = await operator.call('PUT', `/api/services/default/provider-keys/custom:${like}`, { key, body })
          assert.equal(status, 200, text)
        }
        sandbox = await new Atoll({ url: operator.url, apiKey: key }).sandboxes.create({ memoryMb: 4096 })
      },
      { timeout: 900_000 },
    )
    after(async () => {
      await operator?.[Symbol.asyncDispose]()
      await model?.close()
    })

    for (const [harness, like] of Object.entries(apis)) {
      test(`${harness} works, and its run is charged with what the model counts`, async () => {
        const before = model.requests.length
        const found = (await sandbox.agents.list()).find(({ id }) => id === harness)
        assert.equal(found?.credentials_available, true)
        const file = `${harness}.txt`
        const prompt = `[[plan:write,text]][[file:${file}]] make it`
        const run = await sandbox.agents.prompt(prompt, { harness, timeoutMs: 120_000, ...(harness !== 'codex' && { model: 'scripted' }) })
        assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
        assert.match(await sandbox.files.readText(file), /hello from the scripted model/)
        const asked = model.requests.slice(before)
        assert.ok(asked.length >= 2)
        assert.doesNotMatch(JSON.stringify(asked), /atoll-placeholder/)
        const { body } = await operator.call('GET', `/api/usage?by=run,provider&run=${run.id}`)
        const [row] = body.usage
        assert.equal(row.provider, `custom:${like}`)
        const counted = (kind: 'input' | 'output' | 'cache_read' | 'cache_write'): number =>
          asked.reduce((sum, { usage }) => sum + (usage?.[kind] ?? 0), 0)
        assert.equal(row.input_tokens, counted('input') + counted('cache_write'))
        assert.equal(row.cached_tokens, counted('cache_read'))
        assert.equal(row.output_tokens, counted('output'))
        assert.equal(row.estimated, 0)
      })
    }

    test('without its key a run ends with what the owner must do, and soon', async () => {
      const key = await operator.newKey('nick')
      const other = await new Atoll({ url: operator.url, apiKey: key }).sandboxes.create({ memoryMb: 2048 })
      await assert.rejects(other.agents.prompt('hi', { harness: 'claude-code', timeoutMs: 60_000 }), { code: 'agent.no_credentials' })
      const env = { ANTHROPIC_API_KEY: 'atoll-placeholder', ANTHROPIC_BASE_URL: 'http://127.0.0.1:7077/anthropic' }
      const run = await other.agents.prompt('hi', { harness: 'claude-code', model: 'scripted', timeoutMs: 60_000, env })
      assert.equal(run.outcome, 'failed')
      assert.match(run.error?.message ?? '', /has no key of "anthropic"/)
    })
  })
}
