import assert from 'node:assert/strict'
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { inspect } from 'node:util'
import { Failure } from '@atoll/protocol'
import { Keyring } from './keyring.ts'
import { Secret } from './secret.ts'

const folders: string[] = []
async function stateDir(): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'atoll-keyring-'))
  folders.push(folder)
  return folder
}
after(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true }))))

const failsWith = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof Failure && error.code === code && message.test(error.message)
const context = 'sandbox/sandbox-1/env'
const secretOf = (character: string): Secret => new Secret(character.repeat(32))

test('what was sealed opens again, also after a restart', async () => {
  const folder = await stateDir()
  const ring = await Keyring.open({ stateDir: folder })
  const sealed = ring.seal('köpi{"A":"b"}', context)
  assert.match(sealed, /^v1\.k[0-9a-f]{8}\.[\w-]+$/)
  assert.notEqual(ring.seal('köpi{"A":"b"}', context), sealed)
  const again = await Keyring.open({ stateDir: folder })
  assert.equal(again.open(sealed, context), 'köpi{"A":"b"}')
  assert.equal(again.operatorId, ring.operatorId)
  assert.deepEqual(again.deriveKey('session').reveal(), ring.deriveKey('session').reveal())
})

test('a sealed value does not open in another place, nor when a bit of it was changed', async () => {
  const ring = await Keyring.open({ stateDir: await stateDir() })
  const sealed = ring.seal('text', context)
  assert.throws(() => ring.open(sealed, 'sandbox/sandbox-2/env'), failsWith('internal', /changed, or sealed for something else/))
  const [, , encoded = ''] = sealed.split('.')
  const bytes = Buffer.from(encoded, 'base64url')
  for (const [index, byte] of bytes.entries()) {
    const changed = Buffer.from(bytes)
    changed[index] = byte ^ 1
    assert.throws(() => ring.open(`v1.${ring.activeKeyId}.${changed.toString('base64url')}`, context), failsWith('internal', /changed/))
  }
  for (const damaged of ['', 'v1', 'v1.k00000000', `v2.${ring.activeKeyId}.${encoded}`, `${sealed}.x`, `v1.${ring.activeKeyId}.AAAA`]) {
    assert.throws(() => ring.open(damaged, context), failsWith('internal', /damaged/))
  }
})

test('after a rotation the new key seals, older values still open, and derived keys are new', async () => {
  const folder = await stateDir()
  const ring = await Keyring.open({ stateDir: folder })
  const [before, sealed, session] = [ring.activeKeyId, ring.seal('old', context), ring.deriveKey('session').reveal()]
  await ring.rotate()
  for (const current of [ring, await Keyring.open({ stateDir: folder })]) {
    assert.notEqual(current.activeKeyId, before)
    assert.equal(current.open(sealed, context), 'old')
    assert.match(current.seal('new', context), new RegExp(`^v1\\.${current.activeKeyId}\\.`))
    assert.notDeepEqual(current.deriveKey('session').reveal(), session)
  }
})

test('sessions and preview links have keys of their own', async () => {
  const ring = await Keyring.open({ stateDir: await stateDir() })
  assert.equal(ring.deriveKey('session').reveal().length, 32)
  assert.notDeepEqual(ring.deriveKey('session').reveal(), ring.deriveKey('preview').reveal())
})

test('a secret of the environment seals, and the same secret opens on another state folder', async () => {
  const ring = await Keyring.open({ stateDir: await stateDir(), sessionSecret: secretOf('s') })
  const sealed = ring.seal('text', context)
  assert.match(sealed, /^v1\.env-[0-9a-f]{8}\./)
  const other = await Keyring.open({ stateDir: await stateDir(), sessionSecret: secretOf('s') })
  assert.equal(other.open(sealed, context), 'text')
  assert.notEqual(other.operatorId, ring.operatorId)
  await assert.rejects(ring.rotate(), failsWith('config.invalid', /Rotate by changing it/))
})

test('a changed secret opens older values when the earlier one is given, and says which key is missing when it is not', async () => {
  const folder = await stateDir()
  const own = (await Keyring.open({ stateDir: folder })).seal('own', context)
  const sealed = (await Keyring.open({ stateDir: folder, sessionSecret: secretOf('a') })).seal('text', context)
  const changed = await Keyring.open({ stateDir: folder, sessionSecret: secretOf('b') })
  assert.equal(changed.open(own, context), 'own')
  assert.throws(() => changed.open(sealed, context), failsWith('config.invalid', /needs key env-[0-9a-f]{8}/))
  const both = await Keyring.open({ stateDir: folder, sessionSecret: secretOf('b'), previousSecrets: [secretOf('a')] })
  assert.equal(both.open(sealed, context), 'text')
  assert.equal(both.activeKeyId, changed.activeKeyId)
})

test('a secret of less than 32 bytes is refused', async () => {
  const folder = await stateDir()
  await assert.rejects(
    Keyring.open({ stateDir: folder, sessionSecret: new Secret('s'.repeat(31)) }),
    failsWith('config.invalid', /31 bytes/),
  )
  await Keyring.open({ stateDir: folder, sessionSecret: new Secret('ü'.repeat(16)) })
})

test('the key file is private, whole, and alone in its folder', async () => {
  const folder = await stateDir()
  const rings = await Promise.all([1, 2, 3, 4].map(() => Keyring.open({ stateDir: folder })))
  assert.equal(new Set(rings.map((ring) => ring.activeKeyId)).size, 1)
  assert.deepEqual(await readdir(folder), ['keys.json'])
  assert.equal((await stat(path.join(folder, 'keys.json'))).mode & 0o777, 0o600)
})

test('a key file that others may read is refused with the command that mends it', async () => {
  const folder = await stateDir()
  await Keyring.open({ stateDir: folder })
  const file = path.join(folder, 'keys.json')
  for (const mode of [0o640, 0o604, 0o620]) {
    await chmod(file, mode)
    await assert.rejects(Keyring.open({ stateDir: folder }), failsWith('config.invalid', /chmod 600/))
  }
  await chmod(file, 0o600)
  await Keyring.open({ stateDir: folder })
})

test('a damaged key file stops the start, stays as it is, and none of it is printed', async () => {
  const folder = await stateDir()
  const file = path.join(folder, 'keys.json')
  await Keyring.open({ stateDir: folder })
  const whole = await readFile(file, 'utf8')
  const halves = [whole.slice(0, -20), whole.replace('"active"', '"activ"'), whole.replace(/"active": "\w+"/, '"active": "k00000000"'), '']
  for (const text of halves) {
    await writeFile(file, text, { mode: 0o600 })
    await assert.rejects(Keyring.open({ stateDir: folder }), failsWith('config.invalid', /backup/))
    assert.equal(await readFile(file, 'utf8'), text)
  }
})

test('printing a key ring shows no key', async () => {
  const folder = await stateDir()
  const ring = await Keyring.open({ stateDir: folder })
  const stored: { keys: { key: string }[] } = JSON.parse(await readFile(path.join(folder, 'keys.json'), 'utf8'))
  const printed = inspect(ring, { depth: 9, showHidden: true }) + JSON.stringify(ring)
  for (const { key } of stored.keys) assert.equal(printed.includes(key), false)
})
