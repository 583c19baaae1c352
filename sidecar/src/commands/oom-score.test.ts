import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { createUnprotected } from './oom-score.ts'

const scoreOf = (score: string, use: (file: string) => void): string => {
  const folder = mkdtempSync(path.join(tmpdir(), 'atoll-oom-'))
  try {
    const file = path.join(folder, 'oom_score_adj')
    writeFileSync(file, score)
    use(file)
    return readFileSync(file, 'utf8')
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('a protected sidecar is unprotected just while it spawns, also when that fails', () => {
  const after = scoreOf('-900\n', (file) => {
    const unprotected = createUnprotected(file)
    assert.equal(
      unprotected(() => readFileSync(file, 'utf8')),
      '0',
    )
    assert.throws(() =>
      unprotected(() => {
        throw new Error('no room')
      }),
    )
  })
  assert.equal(after, '-900')
})

test('the score of a sidecar that is not protected is left alone', () => {
  const after = scoreOf('300\n', (file) => createUnprotected(file)(() => undefined))
  assert.equal(after, '300\n')
})
