import assert from 'node:assert/strict'
import { test } from 'node:test'
import { format, inspect } from 'node:util'
import { Secret } from './secret.ts'

test('a secret shows its value only when it is asked to reveal it', () => {
  const secret = new Secret('hunter2')
  assert.equal(secret.reveal(), 'hunter2')
  const printed = [
    String(secret),
    `${secret}`,
    JSON.stringify({ secret }),
    inspect({ nested: { secret } }, { depth: 9, showHidden: true }),
    format('%s %o %j', secret, secret, secret),
  ]
  for (const text of printed) {
    assert.match(text, /\[secret\]/)
    assert.doesNotMatch(text, /hunter2/)
  }
  assert.deepEqual(Object.values(secret), [])
})

test('bytes can be secret', () => {
  const secret = new Secret(Buffer.from('hunter2'))
  assert.equal(Buffer.from(secret.reveal()).toString(), 'hunter2')
  assert.equal(inspect(secret), '[secret]')
})
