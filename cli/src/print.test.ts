import assert from 'node:assert/strict'
import { test } from 'node:test'
import { age, table } from './print.ts'

test('a table lines its columns up and ends no line in spaces', () => {
  assert.equal(
    table(
      ['ID', 'NAME'],
      [
        ['long-id', 'a'],
        ['b', ''],
      ],
    ),
    'ID       NAME\nlong-id  a\nb',
  )
})

test('an age is told in its largest unit', () => {
  const at = (seconds: number): string => age(1000, (1000 + seconds) * 1000)
  assert.deepEqual([5, 65, 7300, 200_000].map(at), ['5s', '1m', '2h', '2d'])
})
