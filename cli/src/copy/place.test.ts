import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inParallel, placeOf } from './place.ts'

test('a place with a sandbox before its colon is in that sandbox', () => {
  assert.deepEqual(placeOf('demo:src/a.ts'), { sandbox: 'demo', path: 'src/a.ts' })
  assert.deepEqual(placeOf('demo:/tmp/a:b'), { sandbox: 'demo', path: '/tmp/a:b' })
  assert.deepEqual(placeOf('demo:'), { sandbox: 'demo', path: '.' })
})

test('a place with a slash or dot before its colon, or without one, is here', () => {
  for (const text of ['./a:b', '/a:b', '../x', 'file.txt', 'dir/a:b', '-']) assert.deepEqual(placeOf(text), { path: text })
})

test('work in parallel is done once for each item, and its failure is told', async () => {
  const done: number[] = []
  await inParallel([1, 2, 3, 4, 5, 6], async (item) => void done.push(item), 2)
  assert.deepEqual(done.sort(), [1, 2, 3, 4, 5, 6])
  await assert.rejects(
    inParallel([1], () => Promise.reject(new Error('broken'))),
    /broken/,
  )
})
