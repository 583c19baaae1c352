import assert from 'node:assert/strict'
import { test } from 'node:test'
import { InvalidArgumentError } from 'commander'
import { addPair, addPort, gigabytes, megabytes, port, seconds } from './values.ts'

test('a pair keeps everything after the first =', () => {
  assert.deepEqual(addPair('A=b=c', { X: 'y' }), { X: 'y', A: 'b=c' })
  assert.deepEqual(addPair('EMPTY='), { EMPTY: '' })
  assert.throws(() => addPair('no-equals'), InvalidArgumentError)
  assert.throws(() => addPair('=value'), InvalidArgumentError)
})

test('times and sizes are read with their unit', () => {
  assert.deepEqual(['90', '90s', '1.5m', '2h', '1d'].map(seconds), [90, 90, 90, 7200, 86_400])
  assert.deepEqual(['512', '512m', '2g', '1.5G', '2GiB'].map(megabytes), [512, 512, 2048, 1536, 2048])
  assert.deepEqual(['10', '10g', '10GB'].map(gigabytes), [10, 10, 10])
})

test('what is no time, size or port is refused', () => {
  for (const text of ['', 'x', '-1', '1w', '1 m']) assert.throws(() => seconds(text), InvalidArgumentError, text)
  for (const text of ['', '2t', '-5', '1e3']) assert.throws(() => megabytes(text), InvalidArgumentError, text)
  for (const text of ['0', '080', '+80', '65536', '8o']) assert.throws(() => port(text), InvalidArgumentError, text)
  assert.deepEqual(addPort('8080', [3000]), [3000, 8080])
})
