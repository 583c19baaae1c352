import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Check, CheckStatus } from './check.ts'
import { strongestOf } from './doctor.ts'
import { checkEngine } from './engine.ts'
import { isOlder, knownRuncEscapes, parseVersion } from './version.ts'
import { bootSector } from './virtual-machine.ts'

const checks = (statuses: Readonly<Record<string, CheckStatus>>): Check[] =>
  Object.entries(statuses).map(([id, status]) => ({ id, title: id, status, seen: '' }))

test('versions compare by their numbers', () => {
  assert.deepEqual(parseVersion('runc 1.1.5+ds1'), [1, 1, 5])
  assert.equal(isOlder([1, 9], [1, 10]), true)
  assert.equal(isOlder([1, 10], [1, 9]), false)
  assert.equal(isOlder([1, 2], [1, 2, 0]), false)
  assert.equal(isOlder([1, 2], [1, 2, 1]), true)
})

test('a runc with a known escape is told by its version', () => {
  assert.ok(knownRuncEscapes('1.1.11').includes('CVE-2024-21626'))
  assert.ok(!knownRuncEscapes('1.1.12').includes('CVE-2024-21626'))
  for (const version of ['1.1.15', '1.2.7', '1.3.2']) assert.deepEqual(knownRuncEscapes(version).length, 3, version)
  for (const version of ['1.2.8', '1.2.9', '1.3.3', '1.4.0', '2.0.0']) assert.deepEqual(knownRuncEscapes(version), [], version)
})

test('containers are strongest, unless their starter has a known escape', () => {
  assert.equal(strongestOf(checks({ engine: 'ok', runc: 'ok', bubblewrap: 'ok' }))?.runtime, 'docker')
  assert.equal(strongestOf(checks({ engine: 'ok', runc: 'unknown' }))?.runtime, 'docker')
  assert.equal(strongestOf(checks({ engine: 'ok', runc: 'problem', bubblewrap: 'ok' }))?.runtime, 'namespace')
  assert.equal(strongestOf(checks({ engine: 'warning', bubblewrap: 'ok' }))?.runtime, 'namespace')
  assert.equal(strongestOf(checks({ engine: 'warning', bubblewrap: 'problem' })), null)
})

test('an engine that does not answer is told apart from one on another machine', async () => {
  const [silent] = await checkEngine('unix:///nonexistent/engine.sock')
  assert.equal(silent?.status, 'warning')
  const [remote] = await checkEngine('tcp://203.0.113.1:2375')
  assert.equal(remote?.status, 'problem')
})

test('the test guest is one sector that a firmware boots', () => {
  const sector = bootSector()
  assert.equal(sector.length, 512)
  assert.deepEqual([...sector.slice(-2)], [0x55, 0xaa])
})
