import assert from 'node:assert/strict'
import { test } from 'node:test'
import { versionWarnings } from './advisories.ts'
import { mayRaiseLimits } from './container.ts'
import { withGroup, withUser } from './image-facts.ts'
import { isAllowed, parseReference } from './reference.ts'

test('a name without a tag means latest, never every tag', () => {
  assert.deepEqual(parseReference('debian'), { name: 'debian:latest', canBePulled: true })
  assert.deepEqual(parseReference('ghcr.io/a/b-c/d__e:1.0-x'), { name: 'ghcr.io/a/b-c/d__e:1.0-x', canBePulled: true })
  assert.deepEqual(parseReference('localhost:5000/a'), { name: 'localhost:5000/a:latest', canBePulled: true })
})

test('a digest decides over a tag', () => {
  const digest = `sha256:${'a'.repeat(64)}`
  assert.equal(parseReference(`debian:12@${digest}`).name, `debian@${digest}`)
  assert.deepEqual(parseReference(digest), { name: digest, canBePulled: false })
})

test('what could be a path, an option or another address is no name', () => {
  for (const text of [
    '',
    '/',
    '..',
    '../x',
    '/etc/passwd',
    'a//b',
    'A',
    'a b',
    '-v',
    'x\n',
    'a:',
    'a@sha256:12',
    'a:02280/',
    'http://a/b',
    'a?b',
    'a#b',
    '%2e',
  ]) {
    assert.throws(() => parseReference(text), { code: 'image.not_found' }, text)
  }
})

test('an old runc is warned of, a repaired one not, whichever line of releases it is from', () => {
  const isWarned = (version: string, packaged?: string) => versionWarnings('runc', version, packaged).length > 0
  for (const version of ['1.1.5', '1.1.12', '1.2.7', '1.3.2', '1.0.0']) assert.ok(isWarned(version), version)
  for (const version of ['1.2.8', '1.3.3', '1.3.10', '1.4.0', '2.0.0', 'unknown']) assert.ok(!isWarned(version), version)
  assert.match(versionWarnings('runc', '1.1.5+ds1', '1.1.5+ds1-1+deb12u1').join(), /distribution repaired/)
  assert.match(versionWarnings('runc', '1.1.5', '').join(), /CVE-2024-21626.*CVE-2025-31133.*update it/)
})

test('accounts that are right already are left alone', () => {
  assert.equal(withUser('root:x:0:0::/:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/bash\n', '/bin/sh'), undefined)
  assert.equal(withGroup('root:x:0:\nagent:x:1000:\n'), undefined)
  assert.equal(withGroup(undefined), 'root:x:0:\nagent:x:1000:\n')
})

test('limits are raised only with the capability to', () => {
  assert.equal(mayRaiseLimits('CapEff:\t000001ffffffffff\n'), true)
  assert.equal(mayRaiseLimits('CapEff:\t000001fffeffffff\n'), false)
})

test('an image is allowed by its name, its tag or its digest, and by nothing that only looks like them', () => {
  const digest = `sha256:${'a'.repeat(64)}`
  const may = (text: string, ...patterns: string[]): boolean => isAllowed(parseReference(text).name, patterns)
  assert.ok(may('debian', 'debian'))
  assert.ok(may('debian:12', 'alpine', 'debian'))
  assert.ok(may(`debian@${digest}`, 'debian'))
  assert.ok(may('registry.example/team/web:3', 'registry.example/team/*'))
  assert.ok(may(`debian:12@${digest}`, `debian@${digest}`), 'the digest alone decides')
  assert.ok(!may('debian:11', 'debian:12'))
  assert.ok(!may('evil/debian:12', 'debian'))
  assert.ok(!may('debian-evil', 'debian'))
  assert.ok(!may('registryxexample/team/web', 'registry.example/team/*'))
  assert.ok(!may(`debian@sha256:${'b'.repeat(64)}`, `debian@${digest}`))
  assert.ok(!may(digest, 'debian', 'registry.example/*'), 'an id does not say whose image it is')
})
