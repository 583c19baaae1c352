// What the operator does on its own account, round after round, beside what its users ask for.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

async function stopAndResume(operator: TestOperator, id: string, until: number): Promise<void> {
  while (Date.now() < until) {
    await operator.call('POST', `/api/sandboxes/${id}/stop`, { body: {} })
    const resumed = await operator.call('POST', `/api/sandboxes/${id}/resume`, { body: {} })
    assert.equal(resumed.status, 200, resumed.text)
    const { status, text } = await operator.call('POST', `/api/sandboxes/${id}/exec`, { body: { command: 'true' } })
    assert.equal(status, 200, text)
  }
}

for (const { name: runtime, skip } of testRuntimes) {
  test(`rounds that run all the time leave alone what is just resumed on ${runtime}`, { skip }, async () => {
    await using operator = await startOperator({ runtime, env: { SANDBOX_REAPER_INTERVAL: '1' } })
    const ids = await Promise.all([1, 2, 3].map(() => operator.newSandbox({ memory_mb: 128 })))
    const until = Date.now() + 15_000
    await Promise.all(ids.map((id) => stopAndResume(operator, id, until)))
  })
}
