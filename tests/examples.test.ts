// Every example runs as a user runs it: a program with an address and a key in its environment.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

const folder = fileURLToPath(new URL('../examples/', import.meta.url))

/** What each of them prints; numbers that differ from run to run are left open. */
const expected: Record<string, RegExp> = {
  'run-a-command.ts':
    /^step 1\nstep 2\nstep 3\nexit code 0 after \d+ ms\npear, fig, apple\nexit code 3: no such thing\nended because its time was over\n$/,
  'files.ts':
    /^hello\.txt says "hello\\n"\nrun\.sh counts 6 bytes\nfile hello\.txt 6\nfile run\.sh 34\nsaw (created|changed) of log\.txt\nlarge\.bin has 20000000 bytes\n$/,
  'terminal.ts': /^the terminal has 30 lines of 100 characters\nand now 40 of 120\na second viewer sees the size is 30 100\n$/,
  'web-server.ts':
    /^200 hello from \/from-a-program\nopen http:\/\/\S+\nthe server ended by \{"type":"signalled","signal":"SIGTERM"[^}]*\}\n$/,
}

test('every example is expected here', () => {
  assert.deepEqual(readdirSync(folder).sort(), Object.keys(expected).sort())
})

for (const { name: runtime, skip } of testRuntimes) {
  describe(`on ${runtime}`, { skip }, () => {
    let operator: TestOperator
    before(async () => {
      operator = await startOperator({ runtime })
    })
    after(() => operator[Symbol.asyncDispose]())

    for (const [name, output] of Object.entries(expected)) {
      test(`${name} prints what it says and leaves no sandbox`, async () => {
        const env = { ...process.env, ATOLL_URL: operator.url, ATOLL_API_KEY: operator.adminKey }
        const { stdout } = await promisify(execFile)(process.execPath, [path.join(folder, name)], { env, timeout: 60_000 })
        assert.match(stdout, output)
        assert.deepEqual((await operator.call('GET', '/api/sandboxes')).body.sandboxes, [])
      })
    }
  })
}
