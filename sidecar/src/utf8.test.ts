import assert from 'node:assert/strict'
import { test } from 'node:test'
import { completeLength } from './utf8.ts'

test('a text cut anywhere is complete up to the last whole character', () => {
  const text = 'aé€😀z'
  const bytes = Buffer.from(text)
  for (let cut = 0; cut <= bytes.length; cut++) {
    const kept = bytes.subarray(0, completeLength(bytes.subarray(0, cut))).toString('utf8')
    assert.ok(text.startsWith(kept), `cut at ${cut} keeps ${kept}`)
    assert.ok(cut - Buffer.byteLength(kept) < 4)
  }
})

test('bytes that begin no character are never held back', () => {
  assert.equal(completeLength(Buffer.from([0x61, 0xff])), 2)
  assert.equal(completeLength(Buffer.from([0x80, 0x80, 0x80, 0x80])), 4)
  assert.equal(completeLength(Buffer.from([0x61, 0xe2, 0x82])), 1)
})
