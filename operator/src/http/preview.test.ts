import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import { Previews } from './preview.ts'

const sandbox = { id: 'sandbox-1', ports: [3000, 4000] } as unknown as SandboxRecord
const newKey = () => {
  const key = randomBytes(32)
  return () => key
}
const open = (now = 1_000_000) => new Previews({ key: newKey(), now: () => now, address: (id, port) => `http://${port}--${id}.localhost/` })

test('a link opens its port of its sandbox until it expires', () => {
  let now = 1_000_000
  const previews = new Previews({ key: newKey(), now: () => now, address: () => 'http://x/' })
  const { token, expires_at } = previews.link(sandbox, 3000, 60)
  assert.equal(expires_at, 1060)
  assert.deepEqual(previews.verify([token], 'sandbox-1', 3000), { expiresAt: 1060 })
  now += 60_000
  assert.throws(() => previews.verify([token], 'sandbox-1', 3000), { code: 'port.token_invalid', status: 401 })
})

test('a link is good for no other port, sandbox, operator or expiry', () => {
  const previews = open()
  const { token } = previews.link(sandbox, 3000, 60)
  assert.throws(() => previews.verify([token], 'sandbox-1', 4000), { code: 'port.token_invalid' })
  assert.throws(() => previews.verify([token], 'sandbox-2', 3000), { code: 'port.token_invalid' })
  assert.throws(() => open().verify([token], 'sandbox-1', 3000), { code: 'port.token_invalid' })
  assert.throws(() => previews.verify([token.replace(/^\d+/, '999999999')], 'sandbox-1', 3000), { code: 'port.token_invalid' })
  for (const forged of ['', '.', 'x.y', `${token}x`, `${token.slice(0, -1)}`]) {
    assert.throws(() => previews.verify([forged], 'sandbox-1', 3000), { code: 'port.token_invalid' })
  }
})

test('a wrong token beside the right one does no harm', () => {
  const previews = open()
  const { token } = previews.link(sandbox, 3000, 60)
  assert.deepEqual(previews.verify(['x', token], 'sandbox-1', 3000), { expiresAt: 1060 })
})

test('only a port that was asked for gets a link', () => {
  assert.throws(() => open().link(sandbox, 8080, 60), { code: 'port.not_exposed', status: 404 })
})
