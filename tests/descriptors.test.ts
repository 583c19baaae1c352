// Files that whoever starts the operator has open do not get into sandboxes.
import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import { testRuntimes } from './runtimes.ts'
import { startOperator } from './start-operator.ts'

const folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-test-'))
after(() => rmSync(folder, { recursive: true }))

for (const { name: runtime, skip } of testRuntimes) {
  describe(`on ${runtime}`, { skip }, () => {
    test('a command has standard input, output and error, and nothing of the host', async () => {
      const secret = path.join(folder, 'secret-of-the-host')
      writeFileSync(secret, 'canary')
      const descriptor = openSync(secret, 'r')
      try {
        await using operator = await startOperator({ runtime, descriptors: [descriptor, descriptor] })
        const id = await operator.newSandbox()
        const script = 'ls -l /proc/$$/fd; true'
        const { body } = await operator.call('POST', `/api/sandboxes/${id}/exec`, { body: { argv: ['sh', '-c', script] } })
        const numbers = [...String(body.stdout).matchAll(/ (\d+) -> /g)].map(([, number]) => Number(number))
        assert.deepEqual(numbers.sort(), [0, 1, 2], body.stdout)
        assert.doesNotMatch(body.stdout, /secret-of-the-host/)
      } finally {
        closeSync(descriptor)
      }
    })
  })
}
