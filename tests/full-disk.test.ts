// The disk with the operator's own state is full.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { startOperator, type TestOperator } from './start-operator.ts'

function fill(file: string): void {
  assert.throws(() => {
    for (;;) writeFileSync(file, Buffer.alloc(4096), { flag: 'a' })
  }, /ENOSPC/)
}

/** Files of the store may have room of their own for a while. */
async function untilRefused(operator: TestOperator, target: string, body: object): Promise<[number, string]> {
  for (;;) {
    const { status, body: answer } = await operator.call('POST', target, { body })
    if (status !== 201) return [status, answer.code]
  }
}

test('what runs goes on and answers, what would have to be remembered is refused, and with room all is well', async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-test-'))
  const state = path.join(folder, 'state')
  mkdirSync(state)
  chmodSync(folder, 0o711)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=300m,mode=711', 'none', state])
  let operator: TestOperator | undefined
  try {
    operator = await startOperator({
      runtime: 'namespace',
      folder,
      env: { ATOLL_DEFAULT_DISK_GB: '1', ATOLL_DISK_RESERVE_MB: '0' },
    })
    const running = operator
    const spec = { memory_mb: 128, disk_gb: 1 }
    const id = await operator.newSandbox(spec)
    const exec = () => running.call('POST', `/api/sandboxes/${id}/exec`, { body: { command: 'echo alive' } })
    fill(path.join(state, 'big'))
    // Longer than the time of the last use is kept from the store.
    await new Promise((resolve) => setTimeout(resolve, 5100))
    assert.equal((await operator.call('GET', `/api/sandboxes/${id}`)).status, 200)
    assert.equal((await exec()).body.stdout, 'alive\n')
    for (const [target, body] of [
      ['/api/keys', { name: 'late', scope: 'read' }],
      ['/api/sandboxes', spec],
    ] as const) {
      assert.deepEqual(await untilRefused(operator, target, body), [503, 'store.unavailable'], target)
    }
    rmSync(path.join(state, 'big'))
    await operator.newSandbox(spec)
    assert.equal((await exec()).body.stdout, 'alive\n')
    for (const { id: each } of (await operator.call('GET', '/api/sandboxes')).body.sandboxes) {
      assert.equal((await operator.call('DELETE', `/api/sandboxes/${each}`)).status, 200)
    }
    assert.equal(await operator.stop(), 0)
  } finally {
    await operator?.kill()
    execFileSync('umount', ['--lazy', state])
    rmSync(folder, { recursive: true })
  }
})

test('no sandbox is made while the disk has less free than the reserve', async () => {
  await using operator = await startOperator({ runtime: 'namespace', env: { ATOLL_DISK_RESERVE_MB: '999999999999' } })
  const { status, body } = await operator.call('POST', '/api/sandboxes', { body: {} })
  assert.deepEqual([status, body.code], [503, 'capacity.exhausted'])
  assert.match(body.error, /MB free/)
})
