import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '@atoll/protocol'
import { parseRange } from './range.ts'

test('a single range is cut to the file', () => {
  assert.deepEqual(parseRange('bytes=2-4', 10), { start: 2, end: 4 })
  assert.deepEqual(parseRange('bytes=2-', 10), { start: 2, end: 9 })
  assert.deepEqual(parseRange('bytes=-3', 10), { start: 7, end: 9 })
  assert.deepEqual(parseRange('bytes=-30', 10), { start: 0, end: 9 })
  assert.deepEqual(parseRange('bytes=0-99', 10), { start: 0, end: 9 })
})

test('what is not understood asks for the whole file', () => {
  for (const header of [undefined, '', 'bytes=-', 'bytes=1-2,4-5', 'lines=1-2', 'bytes=5-2', 'bytes=a-b']) {
    assert.equal(parseRange(header, 10), undefined)
  }
})

test('a range outside of the file is refused', () => {
  for (const header of ['bytes=10-', 'bytes=10-20', 'bytes=-0']) {
    assert.throws(
      () => parseRange(header, 10),
      (error) => error instanceof Failure && error.code === 'file.range',
    )
  }
})
