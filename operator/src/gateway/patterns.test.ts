import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fitsName } from './patterns.ts'

test('a star stands for anything, and everything else for itself', () => {
  const fitting = [
    ...([
      ['a', 'a'],
      ['*', ''],
      ['*', 'a/b'],
      ['a*', 'a'],
      ['a*', 'abc'],
      ['*c', 'abc'],
      ['a*c', 'ac'],
      ['a*b*c', 'a1b2c'],
    ] as const),
    ...([
      ['a*a', 'aa'],
      ['**', 'x'],
      ['claude-*-4', 'claude-sonnet-4'],
      ['a.b', 'a.b'],
      ['*ab*ab*', 'xabyabz'],
    ] as const),
  ]
  for (const [pattern, name] of fitting) assert.ok(fitsName(pattern, name), `${pattern} ${name}`)
  const other = [
    ...([
      ['a', 'b'],
      ['a', 'ab'],
      ['', 'a'],
      ['a*', 'ba'],
      ['*c', 'cb'],
      ['a*a', 'a'],
      ['a*b*c', 'a1c2b'],
    ] as const),
    ...([
      ['a.b', 'axb'],
      ['ab*ba', 'aba'],
      ['*ab*ab*', 'xaby'],
      ['(a)+', 'a'],
      ['a*bc*c', 'abc'],
    ] as const),
  ]
  for (const [pattern, name] of other) assert.ok(!fitsName(pattern, name), `${pattern} ${name}`)
})

test('a pattern of many stars is looked at no longer than the name is', () => {
  assert.ok(!fitsName('*a'.repeat(50), `${'a'.repeat(1_000_000)}b`))
})
