import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { inspect } from 'node:util'
import { Secret } from '../secrets/secret.ts'
import { ApiKeys } from './api-keys.ts'
import { Auth } from './auth.ts'
import { authorize, bearerToken, type Caller, canonicalOwner, isSameOwner, type Scope } from './caller.ts'
import { Challenges } from './challenge.ts'
import { ensureAdminKey, SignInLinks } from './first-start.ts'
import { Sessions } from './session.ts'
import { MemoryApiKeys, MemorySessions } from './testing/memory-stores.ts'
import { Wallet } from './testing/wallet.ts'

const folders: string[] = []
after(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true }))))

const start = 1_700_000_000_000

function makeAuth(options: { key?: Secret<Uint8Array>; operatorId?: string; revoked?: MemorySessions; origin?: string } = {}) {
  let time = start
  const now = (): number => time
  const key = options.key ?? new Secret(new Uint8Array(randomBytes(32)))
  const revoked = options.revoked ?? new MemorySessions()
  const stored = new MemoryApiKeys()
  const keys = new ApiKeys({ store: stored, now })
  const links = new SignInLinks({ now })
  const challenges = new Challenges({ origin: () => options.origin ?? 'http://localhost:9090', now })
  const sessions = new Sessions({ key: () => key, operatorId: options.operatorId ?? 'one', store: revoked, now })
  const auth = new Auth({ challenges, sessions, keys, links, now })
  const advance = (ms: number): void => {
    time += ms
  }
  return { auth, keys, links, sessions, key, revoked, stored, advance }
}

async function signIn(auth: Auth, wallet = new Wallet()): Promise<{ token: string; wallet: Wallet; expiresAt: number }> {
  const { nonce, message } = auth.challenge({ address: wallet.address, client: 'client' })
  const { token, session } = await auth.signIn({ nonce, signature: wallet.sign(message) })
  return { token: token.reveal(), wallet, expiresAt: session.expiresAt }
}

const bearer = (token: string): string => `Bearer ${token}`
const invalid = (message: RegExp) => ({ code: 'auth.invalid', status: 401, message })

test('a wallet signs in to a session of one hour, known by its lower-case address', async () => {
  const { auth, advance } = makeAuth()
  const { token, wallet, expiresAt } = await signIn(auth)
  assert.match(token, /^v4\.local\.[\w-]+$/)
  assert.equal(expiresAt, start + 3_600_000)
  const caller = await auth.authenticate(`bEaReR  ${token}`)
  assert.equal(caller.owner, wallet.address)
  assert.equal(caller.scope, 'owner')
  assert.equal(caller.via, 'session')
  advance(3_599_000)
  await auth.authenticate(bearer(token))
  advance(10_000)
  await assert.rejects(auth.authenticate(bearer(token)), invalid(/expired\. Sign in again/))
})

test('a session outlives a restart and a change of the origin', async () => {
  const before = makeAuth()
  const { token, wallet } = await signIn(before.auth)
  const later = makeAuth({ key: before.key, revoked: before.revoked, origin: 'https://atoll.example' })
  assert.equal((await later.auth.authenticate(bearer(token))).owner, wallet.address)
})

test('a session of another operator, or of another key, is refused', async () => {
  const one = makeAuth()
  const { token } = await signIn(one.auth)
  await assert.rejects(makeAuth({ key: one.key, operatorId: 'two' }).auth.authenticate(bearer(token)), invalid(/not valid/))
  await assert.rejects(makeAuth().auth.authenticate(bearer(token)), invalid(/not valid/))
})

test('a session that was ended stays ended after a restart', async () => {
  const before = makeAuth()
  const { token } = await signIn(before.auth)
  assert.equal(await before.auth.signOut(bearer(token)), true)
  await assert.rejects(before.auth.authenticate(bearer(token)), invalid(/was ended/))
  const later = makeAuth({ key: before.key, revoked: before.revoked })
  await assert.rejects(later.auth.authenticate(bearer(token)), invalid(/was ended/))
  assert.equal(await later.auth.signOut(bearer(token)), false)
})

test('signing out with what is no session stores nothing', async () => {
  const { auth, revoked } = makeAuth()
  const { token } = await signIn(makeAuth().auth)
  for (const text of [token, 'v4.local.AAAA', 'garbage', `v4.local.${'A'.repeat(5000)}`])
    assert.equal(await auth.signOut(bearer(text)), false)
  assert.equal(revoked.revoked.size, 0)
  await assert.rejects(auth.signOut(undefined), { code: 'auth.missing', status: 400, message: 'Missing Authorization header' })
})

test('ended sessions are forgotten when they would have expired anyway', async () => {
  const { auth, revoked, advance } = makeAuth()
  await auth.signOut(bearer((await signIn(auth)).token))
  advance(3_700_000)
  await auth.signOut(bearer((await signIn(auth)).token))
  assert.equal(revoked.revoked.size, 1)
})

test('a request without a credential, or with a malformed one, is told so', async () => {
  const { auth } = makeAuth()
  const missing = { code: 'auth.missing', status: 401, message: 'Missing Authorization header' }
  await assert.rejects(auth.identify({}), missing)
  await assert.rejects(auth.identify({ authorization: ' ', 'x-api-key': '' }), missing)
  for (const header of ['Bearer', 'Bearer a b', 'Basic dTpw', 'token', 'Bearerx y']) {
    await assert.rejects(auth.authenticate(header), invalid(/^Invalid Authorization header format$/))
  }
  assert.equal(bearerToken('BEARER\tx '), 'x')
})

test('an API key is accepted in both headers, and in the spelling that E2B clients insist on', async () => {
  const { auth, keys } = makeAuth()
  const { key, record } = await keys.create({ name: 'ci', scope: 'read', owner: `0x${'AB'.repeat(20)}` })
  const text = key.reveal()
  assert.match(text, /^atoll_r_[0-9a-f]{72}$/)
  const e2b = text.replace('atoll_r_', 'e2b_')
  const requests = [
    { authorization: bearer(text) },
    { 'x-api-key': text },
    { 'x-api-key': e2b },
    { 'x-api-key': text, authorization: 'Basic x' },
  ]
  for (const headers of requests) {
    const caller = await auth.identify(headers)
    assert.deepEqual(caller, { owner: `0x${'ab'.repeat(20)}`, scope: 'read', via: 'key', id: record.id, expiresAt: undefined })
  }
})

test('a mistyped key is told from an unknown one without a look in the store', async () => {
  const { keys, stored } = makeAuth()
  const { key, record } = await keys.create({ name: '', scope: 'owner', owner: 'alice' })
  const text = key.reveal()
  await keys.revoke(record.id, 'alice')
  await assert.rejects(keys.verify(text), invalid(/unknown to this operator or was revoked/))
  stored.findByHash = () => assert.fail('the store was asked')
  const typo = text.slice(0, 20) + (text[20] === 'a' ? 'b' : 'a') + text.slice(21)
  for (const wrong of [typo, text.slice(0, -1), `${text}0`, text.toUpperCase(), 'atoll_', 'e2b_0000', `atoll_x_${text.slice(8)}`]) {
    await assert.rejects(keys.verify(wrong), invalid(/missing or mistyped/))
  }
})

test('a key is kept as a hash only, and is never printed', async () => {
  const { keys, stored } = makeAuth()
  const made = await keys.create({ name: 'n', scope: 'admin', owner: 'alice' })
  const random = made.key.reveal().slice('atoll_a_'.length)
  const kept = inspect(stored.keys, { depth: 9 }) + JSON.stringify(made) + inspect(made, { depth: 9 })
  assert.equal(kept.includes(random.slice(0, 64)), false)
})

test('a key ends when its time is over', async () => {
  const { keys, advance } = makeAuth()
  const { key } = await keys.create({ name: '', scope: 'owner', owner: 'alice', expiresAt: start + 1000 })
  await keys.verify(key.reveal())
  advance(1000)
  await assert.rejects(keys.verify(key.reveal()), invalid(/expired/))
})

test('the last use of a key is written at most once a minute', async () => {
  const { keys, stored, advance } = makeAuth()
  const { key, record } = await keys.create({ name: '', scope: 'owner', owner: 'alice' })
  const lastUsed = async (): Promise<number | undefined> => {
    await keys.verify(key.reveal())
    return stored.keys.get(record.id)?.lastUsedAt
  }
  assert.equal(await lastUsed(), start)
  advance(59_999)
  assert.equal(await lastUsed(), start)
  advance(1)
  assert.equal(await lastUsed(), start + 60_000)
})

const callerOf = (owner: string, scope: Scope, via: Caller['via'] = 'session', expiresAt?: number): Caller => ({
  owner,
  scope,
  via,
  id: 'id',
  expiresAt,
})

test('an owner makes, sees and revokes only keys of its own, and none of scope admin', async () => {
  const { auth } = makeAuth()
  const [alice, bob] = [callerOf('alice', 'owner'), callerOf('bob', 'owner')]
  const { record } = await auth.createKey(alice, { name: 'a', scope: 'owner' })
  assert.equal(record.owner, 'alice')
  await assert.rejects(auth.createKey(alice, { name: '', scope: 'admin' }), { code: 'auth.forbidden' })
  await assert.rejects(auth.createKey(alice, { name: '', scope: 'owner', owner: 'bob' }), { code: 'auth.forbidden' })
  await assert.rejects(auth.createKey(callerOf('alice', 'read'), { name: '', scope: 'read' }), { code: 'auth.forbidden' })
  assert.deepEqual(await auth.listKeys(bob), [])
  await assert.rejects(auth.revokeKey(bob, record.id), { code: 'key.not_found' })
  assert.deepEqual(await auth.listKeys(alice), [record])
  await auth.revokeKey(alice, record.id)
  await assert.rejects(auth.revokeKey(alice, record.id), { code: 'key.not_found' })
})

test('an admin makes keys for anybody and sees them all', async () => {
  const { auth } = makeAuth()
  const admin = callerOf('admin', 'admin', 'key')
  const { record } = await auth.createKey(admin, { name: '', scope: 'owner', owner: `0x${'CD'.repeat(20)}`, ttlMs: 60_000 })
  assert.equal(record.owner, `0x${'cd'.repeat(20)}`)
  assert.equal(record.expiresAt, start + 60_000)
  assert.deepEqual(await auth.listKeys(admin), [record])
  await auth.revokeKey(admin, record.id)
})

test('a key made by a key does not outlive it', async () => {
  const { auth } = makeAuth()
  const parent = callerOf('alice', 'owner', 'key', start + 5000)
  for (const ttlMs of [undefined, 60_000]) {
    assert.equal((await auth.createKey(parent, { name: '', scope: 'owner', ttlMs })).record.expiresAt, start + 5000)
  }
  assert.equal((await auth.createKey(parent, { name: '', scope: 'owner', ttlMs: 1000 })).record.expiresAt, start + 1000)
  const session = callerOf('alice', 'owner', 'session', start + 5000)
  assert.equal((await auth.createKey(session, { name: '', scope: 'owner' })).record.expiresAt, undefined)
})

test('a revoked key takes the keys with it that it made, but for those that an admin made for others', async () => {
  const { auth, keys } = makeAuth()
  const make = async (parent: Caller, scope: Scope, owner = parent.owner): Promise<Caller> => {
    const { record } = await auth.createKey(parent, { name: '', scope, owner })
    return { owner: record.owner, scope, via: 'key', id: record.id }
  }
  const first = await make(callerOf('root', 'admin', 'session'), 'admin')
  const other = await make(callerOf('root', 'admin', 'session'), 'owner')
  const [own, admin, tenant] = [await make(first, 'read'), await make(first, 'admin', 'mallory'), await make(first, 'owner', 'alice')]
  const [tenants, grandchild] = [await make(tenant, 'owner'), await make(admin, 'owner')]
  await auth.revokeKey(first, first.id)
  const left = new Set((await keys.list(undefined)).map(({ id }) => id))
  assert.deepEqual(left, new Set([other.id, tenant.id, tenants.id]))
  assert.ok(![own, grandchild].some(({ id }) => left.has(id)))
  await auth.revokeKey(tenant, tenant.id)
  assert.deepEqual(
    (await keys.list(undefined)).map(({ id }) => id),
    [other.id],
  )
})

test('what a scope may do', () => {
  const allowed = (caller: Caller | undefined): string[] =>
    (['public', 'read', 'write', 'admin'] as const).filter((access) => {
      try {
        authorize(caller, access)
        return true
      } catch {
        return false
      }
    })
  assert.deepEqual(allowed(undefined), ['public'])
  assert.deepEqual(allowed(callerOf('a', 'read')), ['public', 'read'])
  assert.deepEqual(allowed(callerOf('a', 'owner')), ['public', 'read', 'write'])
  assert.deepEqual(allowed(callerOf('a', 'admin')), ['public', 'read', 'write', 'admin'])
  assert.throws(() => authorize(callerOf('a', 'read'), 'write'), { code: 'auth.forbidden', status: 403 })
})

test('addresses are the same owner in any case; other names are not', () => {
  const address = `0x${'aB'.repeat(20)}`
  assert.equal(isSameOwner(address, address.toUpperCase().replace('0X', '0x')), true)
  assert.equal(isSameOwner('alice', 'Alice'), false)
  assert.equal(canonicalOwner('Alice'), 'Alice')
})

async function stateDir(): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'atoll-auth-'))
  folders.push(folder)
  return folder
}

test('the first start makes one admin key, private, and later starts keep it', async () => {
  const { auth, keys } = makeAuth()
  const folder = await stateDir()
  const first = await ensureAdminKey({ keys, stateDir: folder })
  const second = await ensureAdminKey({ keys, stateDir: folder })
  assert.deepEqual([first.isNew, second.isNew], [true, false])
  assert.equal(first.key.reveal(), second.key.reveal())
  assert.equal(first.file, path.join(folder, 'admin-key'))
  assert.equal((await stat(first.file)).mode & 0o777, 0o600)
  const caller = await auth.identify({ 'x-api-key': (await readFile(first.file, 'utf8')).trim() })
  assert.equal(caller.scope, 'admin')
  assert.equal((await keys.list(undefined)).length, 1)
})

test('an admin key that does not work is replaced, and one that others may read stops the start', async () => {
  const { keys } = makeAuth()
  const folder = await stateDir()
  const { record, key } = await keys.create({ name: '', scope: 'owner', owner: 'alice' })
  const file = path.join(folder, 'admin-key')
  for (const text of ['', 'garbage', key.reveal()]) {
    await writeFile(file, text, { mode: 0o600 })
    const made = await ensureAdminKey({ keys, stateDir: folder })
    assert.equal(made.isNew, true)
    assert.equal((await keys.verify(made.key.reveal())).scope, 'admin')
  }
  assert.equal((await keys.list('alice')).at(0)?.id, record.id)
  await chmod(file, 0o644)
  await assert.rejects(ensureAdminKey({ keys, stateDir: folder }), { code: 'config.invalid', message: /chmod 600/ })
})

test('a sign-in link gives one admin session, within fifteen minutes', async () => {
  const { auth, links, advance } = makeAuth()
  const codeOf = (): string => new URL(links.create({ origin: 'http://127.0.0.1:9090/x' }).url.reveal()).hash.slice('#code='.length)
  const code = codeOf()
  const { token } = await auth.signInByLink(code)
  assert.deepEqual((await auth.authenticate(bearer(token.reveal()))).scope, 'admin')
  const used = { code: 'auth.challenge_invalid', status: 401 }
  await assert.rejects(auth.signInByLink(code), used)
  await assert.rejects(auth.signInByLink(''), used)
  const late = codeOf()
  advance(15 * 60_000)
  await assert.rejects(auth.signInByLink(late), used)
})
