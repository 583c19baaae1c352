// The audit log: what is told, who sees it, and that nobody changes it unseen.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, test } from 'node:test'
import { type AuditEntry, auditText } from '@atoll/protocol'
import { Atoll } from '@atoll/sdk'
import { commandFor } from '../cli/tests/atoll.ts'
import { Audit } from '../operator/src/audit/audit.ts'
import { ofOperator } from '../operator/src/audit/happening.ts'
import { hashOf, headFile } from '../operator/src/audit/head.ts'
import { Keyring } from '../operator/src/secrets/keyring.ts'
import { Database } from '../operator/src/storage/database.ts'
import { sqliteAudit } from '../operator/src/storage/sqlite-audit.ts'
import { createLog } from '../operator/src/telemetry/log.ts'
import { ChainReader } from '../sdk/src/audit-chain.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

const env = { SANDBOX_REAPER_INTERVAL: '1' }
let operator: TestOperator

before(async () => {
  operator = await startOperator({ runtime: 'namespace', env })
})
after(() => operator[Symbol.asyncDispose]())

const admin = () => new Atoll({ url: operator.url, apiKey: operator.adminKey })
const databaseOf = () => new DatabaseSync(path.join(operator.folder, 'state/atoll.db'))

async function entries(query = '', key = operator.adminKey): Promise<AuditEntry[]> {
  const { body, text } = await operator.call('GET', `/api/audit?limit=1000${query}`, { key })
  assert.ok(Array.isArray(body?.entries), text)
  return body.entries
}

/** Reads again until one that fits is there. */
async function entryWhere(fits: (entry: AuditEntry) => boolean): Promise<AuditEntry> {
  for (;;) {
    const found = (await entries()).find(fits)
    if (found) return found
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test('what is done is told with who did it, to what and how it ended, and with nothing of what was run or sent', async () => {
  const key = await operator.newKey('ada')
  const id = await operator.newSandbox({ memory_mb: 128, metadata_json: { ports: [8080] } }, key)
  const at = `/api/sandboxes/${id}`
  const asks: [string, string, object | string | undefined, string, string][] = [
    ['POST', `${at}/exec`, { command: 'echo planted-in-a-command' }, 'process.exec', 'ok'],
    ['POST', `${at}/processes`, { argv: ['true', 'planted-in-argv'] }, 'process.start', 'ok'],
    ['PUT', `${at}/files/content?path=planted-in-a-path`, 'planted-in-a-file', 'file.write', 'ok'],
    ['GET', `${at}/files/content?path=planted-in-a-path`, undefined, 'file.read', 'ok'],
    ['DELETE', `${at}/files?path=planted-in-a-path`, undefined, 'file.delete', 'ok'],
    ['POST', `${at}/live/terminal/sessions`, {}, 'terminal.open', 'ok'],
    ['POST', `${at}/secrets`, { env_json: { TOKEN_NAME: 'planted-in-a-secret' } }, 'secret.set', 'ok'],
    ['GET', `${at}/secrets`, undefined, 'secret.read', 'ok'],
    ['DELETE', `${at}/secrets`, undefined, 'secret.wipe', 'ok'],
    ['PUT', `${at}/egress`, { mode: 'allowlist', rules: [{ host: 'example.com' }] }, 'egress.change', 'ok'],
    ['POST', `${at}/ports/8080/preview`, {}, 'port.share', 'ok'],
    ['POST', `${at}/ports/9090/preview`, {}, 'port.share', 'port.not_exposed'],
    ['POST', `${at}/agents/runs`, { prompt: 'planted-in-a-prompt', harness: 'acp:false' }, 'agent.run', 'ok'],
    ['PUT', '/api/services/default/provider-keys/openai', { key: 'planted-in-a-provider-key' }, 'provider_key.set', 'ok'],
    ['GET', '/api/services/default/provider-keys', undefined, 'provider_key.read', 'ok'],
    ['DELETE', '/api/services/default/provider-keys/openai', undefined, 'provider_key.remove', 'ok'],
    ['POST', '/api/keys', { name: 'planted-in-a-name', scope: 'admin' }, 'key.create', 'auth.forbidden'],
    ['POST', `${at}/stop`, {}, 'sandbox.stop', 'ok'],
    ['POST', `${at}/resume`, {}, 'sandbox.resume', 'ok'],
    ['DELETE', at, undefined, 'sandbox.delete', 'ok'],
  ]
  for (const [method, target, body] of asks) await operator.call(method, target, { key, ...(body !== undefined && { body }) })
  await entryWhere(({ action, outcome, actor }) => action === 'port.share' && outcome !== 'ok' && actor.owner === 'ada')
  const told = await entries('&owner=ada')
  for (const [method, target, , action, outcome] of asks) {
    const found = told.find((entry) => entry.action === action && entry.outcome === outcome && entry.actor.owner === 'ada')
    assert.ok(found, `${method} ${target}: no ${action} ${outcome}`)
    assert.match(found.actor.id, /^key-/)
    assert.deepEqual([found.actor.via, found.owner, found.client], ['api_key', 'ada', '127.0.0.1'])
    if (target.startsWith(at)) assert.equal(found.subject, id)
  }
  const named = (action: string) => told.find((entry) => entry.action === action)?.detail
  assert.deepEqual([named('secret.set'), named('secret.read')], [{ names: ['TOKEN_NAME'] }, { names: ['TOKEN_NAME'] }])
  assert.match(told.find(({ action }) => action === 'provider_key.set')?.subject ?? '', /^service-\d+$/)
  assert.doesNotMatch(JSON.stringify(await entries()), /planted/)
  assert.ok(!JSON.stringify(await entries()).includes(key))
})

test('what the operator does by itself is told with its reason, also to the owner', async () => {
  const key = await operator.newKey('idle-owner')
  const id = await operator.newSandbox({ memory_mb: 128, idle_timeout_seconds: 1 }, key)
  const stopped = await entryWhere(({ action, subject }) => action === 'sandbox.stop' && subject === id)
  assert.deepEqual([stopped.actor.via, stopped.owner, stopped.detail['reason']], ['operator', 'idle-owner', 'idle'])
  assert.ok((await entries('&action=sandbox.stop', key)).some(({ seq }) => seq === stopped.seq))
})

test('an owner sees the own entries and what others did to what is theirs, and nobody else does', async () => {
  const [olga, eve] = await Promise.all([operator.newKey('olga'), operator.newKey('eve')])
  const id = await operator.newSandbox({ memory_mb: 128 }, olga)
  await operator.call('POST', `/api/sandboxes/${id}/secrets`, { key: olga, body: { env_json: { A: '1' } } })
  await operator.call('POST', `/api/sandboxes/${id}/exec`, { key: eve, body: { command: 'true' } })
  await operator.call('DELETE', `/api/sandboxes/${id}`)
  await entryWhere(({ actor, outcome }) => actor.owner === 'eve' && outcome === 'sandbox.not_found')
  const [hers, strange] = [await entries('', olga), await entries('', eve)]
  assert.ok(hers.some(({ action, actor }) => action === 'sandbox.delete' && actor.owner === 'admin'))
  assert.ok(hers.every(({ owner, actor }) => owner === 'olga' || actor.owner === 'olga'))
  assert.deepEqual(
    strange.filter(({ action }) => action !== 'audit.read').map(({ action, outcome }) => [action, outcome]),
    [
      ['key.create', 'ok'],
      ['process.exec', 'sandbox.not_found'],
    ],
  )
  assert.deepEqual(await entries('&owner=olga', eve), [])
  assert.equal((await operator.call('GET', '/api/audit/head', { key: olga })).body.code, 'auth.forbidden')
  assert.equal((await operator.call('GET', '/api/audit', { key: undefined })).status, 401)
  assert.ok((await entries('&action=secret')).every(({ action }) => action.startsWith('secret.')))
})

test('pages of other sites that are kept out are told of', async () => {
  await operator.call('POST', '/api/keys', { body: {}, headers: { origin: 'https://evil.example' } })
  const { actor, action, client } = await entryWhere(({ outcome }) => outcome === 'request.host_refused')
  assert.deepEqual([actor.via, action, client], ['none', 'access.denied', '127.0.0.1'])
})

test('a flood of wrong keys is counted, and not written down one by one', async () => {
  const before = (await entries('&action=access.denied')).length
  for (let round = 0; round < 6; round += 1) {
    const asks = Array.from({ length: 50 }, (_, index) => operator.call('GET', '/api/sandboxes', { key: `atoll_guess${round}x${index}` }))
    await Promise.all(asks)
  }
  await operator.stop()
  operator = await startOperator({ runtime: 'namespace', folder: operator.folder, env })
  const told = (await entries('&action=access.denied')).slice(before).filter(({ outcome }) => outcome === 'auth.invalid')
  assert.ok(told.length <= 3, `${told.length} entries`)
  assert.equal(
    told.reduce((sum, { count }) => sum + count, 0),
    300,
  )
  assert.deepEqual([told[0]?.actor.via, told[0]?.client], ['none', '127.0.0.1'])
})

test('200 changes at once are 200 entries of one chain, also across a restart and a new sealing key', async () => {
  const make = (index: number) => operator.call('POST', '/api/services', { body: { name: `at once ${index}` } })
  const made = await Promise.all(Array.from({ length: 200 }, (_, index) => make(index)))
  assert.ok(made.every(({ status }) => status === 201))
  const told = await entries('&action=service.create')
  assert.deepEqual(new Set(told.map(({ subject }) => subject)), new Set(made.map(({ body }) => `service-${body.id}`)))
  assert.equal((await admin().audit.verify()).isIntact, true)
  await admin().keys.rotateSealingKey()
  await operator.stop()
  operator = await startOperator({ runtime: 'namespace', folder: operator.folder, env })
  const verdict = await admin().audit.verify()
  assert.deepEqual([verdict.isIntact, verdict.firstSeq, verdict.problem], [true, 1, undefined])
  const all = await entries()
  assert.deepEqual(
    all.map(({ seq }) => seq),
    all.map((_, index) => index + 1),
  )
  for (const { hash, ...rest } of all) assert.equal(hashOf(rest), hash)
})

test('what was answered before a kill is in the log after it, and the log is whole', async () => {
  const answered: string[] = []
  const ask = async (): Promise<void> => {
    for (;;) {
      const { status, body } = await operator.call('POST', '/api/keys', { body: { name: 'soon over' } })
      if (status === 201) answered.push(body.id)
      if (answered.length === 40) await operator.kill()
    }
  }
  await Promise.allSettled(Array.from({ length: 8 }, ask))
  operator = await startOperator({ runtime: 'namespace', folder: operator.folder, env })
  const subjects = new Set((await entries('&action=key.create')).map(({ subject }) => subject))
  assert.ok(answered.length >= 40)
  assert.deepEqual(
    answered.filter((id) => !subjects.has(id)),
    [],
  )
  assert.deepEqual((await admin().audit.verify()).problem, undefined)
})

test('whatever is changed in the database of a running operator, verify names the first entry that is wrong', async () => {
  const { head } = await admin().audit.verify()
  const middle = head.seq - 5
  const changes: [string, string, number][] = [
    ['an outcome', `update audit set outcome = 'auth.forbidden' where seq = ${middle}`, middle],
    ['a detail that is not JSON', `update audit set detail_json = '{' where seq = ${middle}`, middle],
    ['a hash', `update audit set hash = '${'0'.repeat(64)}' where seq = ${middle}`, middle],
    ['one deleted', `delete from audit where seq = ${middle}`, middle],
    ['the first deleted', 'delete from audit where seq = 1', 1],
    ['the end cut off', `delete from audit where seq > ${middle} and seq <= ${head.seq}`, middle + 1],
    ['all deleted', `delete from audit where seq <= ${head.seq}`, 1],
    [
      'two swapped',
      `update audit set seq = -1 where seq = ${middle}; update audit set seq = ${middle} where seq = ${middle + 1};
       update audit set seq = ${middle + 1} where seq = -1`,
      middle,
    ],
  ]
  const db = databaseOf()
  db.exec('create temp table kept as select * from audit')
  for (const [what, sql, first] of changes) {
    db.exec(sql)
    const { problem, isIntact } = await admin().audit.verify()
    db.exec('insert or replace into audit select * from kept')
    assert.deepEqual([isIntact, problem?.seq], [false, first], `${what}: ${problem?.problem}`)
  }
  db.close()
  assert.deepEqual((await admin().audit.verify()).problem, undefined)
})

/** What somebody can do who knows how entries are hashed: all from one on are written anew, with hashes that fit. */
function rewriteFrom(db: DatabaseSync, seq: number, change: (entry: AuditEntry) => AuditEntry): void {
  const rows = db.prepare('select * from audit where seq >= ? order by seq').all(seq)
  let { prev } = rows[0] as { prev: string }
  let isFirst = true
  for (const row of rows) {
    const { actor_owner: owner, actor_via: via, actor_id: id, detail_json: detail, ...rest } = row
    const read = { ...rest, actor: { owner, via, id }, detail: JSON.parse(String(detail)), prev } as AuditEntry
    const entry = isFirst ? change(read) : read
    isFirst = false
    const hash = hashOf(entry)
    db.prepare('update audit set outcome = ?, prev = ?, hash = ? where seq = ?').run(entry.outcome, prev, hash, entry.seq)
    prev = hash
  }
  db.prepare('update audit_head set hash = ?').run(prev)
}

const headOf = (folder: string): string => path.join(folder, 'state/audit-head')

/** The end that belongs to a chain that was written anew, with what authenticated the earlier one. */
function rewritten(db: DatabaseSync): object {
  rewriteFrom(db, 3, (entry) => ({ ...entry, outcome: 'auth.forbidden' }))
  return db.prepare('select seq, hash, key_id as keyId, mac from audit_head').get() ?? {}
}

/** One more entry, whose hash is right, and the end moved to it. The file may know an earlier end, as after a crash. */
function putIn(db: DatabaseSync): void {
  db.exec(`insert into audit select seq + 1, at, actor_owner, actor_via, actor_id, action, subject, owner, outcome, client, count,
    detail_json, hash, '' from audit order by seq desc limit 1`)
  const { seq } = db.prepare('select max(seq) as seq from audit').get() as { seq: number }
  rewriteFrom(db, seq, (entry) => entry)
  db.prepare('update audit_head set seq = ?').run(seq)
}

test('a chain that was written anew, put in, cut off or set back while the operator was away is found, and stays found', async () => {
  const folder = operator.folder
  const file = path.join(folder, 'state/atoll.db')
  const kept = mkdtempSync(path.join(os.tmpdir(), 'atoll-audit-'))
  const restart = async (): Promise<void> => {
    operator = await startOperator({ runtime: 'namespace', folder, env })
  }
  await operator.stop()
  await copyFile(file, path.join(kept, 'earlier.db'))
  await restart()
  await operator.newKey('somebody')
  const { head } = await admin().audit.verify()
  await operator.stop()
  await copyFile(file, path.join(kept, 'whole.db'))
  await copyFile(headOf(folder), path.join(kept, 'head'))
  const put = async (name: string): Promise<void> => {
    for (const suffix of ['-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true })
    await copyFile(path.join(kept, name), file)
    await copyFile(path.join(kept, 'head'), headOf(folder))
  }
  const change = (work: (db: DatabaseSync) => void): void => {
    const db = databaseOf()
    work(db)
    db.close()
  }
  const insert = `insert into audit select seq + 1, at, actor_owner, actor_via, actor_id, action, subject, owner, outcome, client, count,
    detail_json, hash, '${'1'.repeat(64)}' from audit order by seq desc limit 1`
  const ways: [string, () => Promise<void> | void][] = [
    ['written anew', () => change((db) => void rewritten(db))],
    ['written anew, and the file with it', () => change((db) => writeFileSync(headOf(folder), JSON.stringify(rewritten(db))))],
    ['put in at the end', () => change((db) => db.exec(insert))],
    ['put in with all that fits it', () => change(putIn)],
    ['cut off', () => change((db) => db.exec('delete from audit where seq = (select max(seq) from audit)'))],
    ['cut off, and the end with it', () => change((db) => db.exec('delete from audit; delete from audit_head'))],
    ['set back to an earlier day', () => put('earlier.db')],
  ]
  for (const [what, tamper] of ways) {
    await put('whole.db')
    await tamper()
    await restart()
    const run = commandFor(operator)
    const [verified, again] = [await run(['audit', 'verify']), await run(['--json', 'audit', 'verify'])]
    assert.equal(verified.code, 1, `${what}: ${verified.text}`)
    assert.match(verified.stderr, /the audit log is broken at entry \d+/, what)
    assert.deepEqual([again.code, JSON.parse(again.text).intact], [1, false], what)
    assert.ok((await entries('&action=audit.mismatch')).length === 1, what)
    await operator.stop()
  }
  await put('whole.db')
  await restart()
  const run = commandFor(operator)
  const whole = await run(['audit', 'verify', '--head', `${head.seq}:${head.hash}`])
  assert.equal(whole.code, 0, whole.stderr)
  assert.match(whole.text, /^\d+:[0-9a-f]{64}\n$/)
  const other = await run(['audit', 'verify', '--head', `${head.seq}:${'0'.repeat(64)}`])
  assert.equal(other.code, 1)
  assert.match(other.stderr, /not the one that was noted down/)
  assert.match((await run(['audit', 'list', '--action', 'key.create'])).text, /NUMBER .*\n.*key\.create/)
  rmSync(kept, { recursive: true })
})

test('entries are forgotten by their age, and a checkpoint keeps what is left a chain', async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-audit-'))
  const db = new Database(path.join(folder, 'atoll.db'))
  const keys = await Keyring.open({ stateDir: folder })
  let now = Date.UTC(2026, 0, 1)
  const parts = {
    store: sqliteAudit(db),
    keys,
    file: headFile(path.join(folder, 'audit-head')),
    now: () => now,
    log: createLog('silent'),
  }
  const audit = await Audit.open(parts)
  const verdict = async () => {
    const reader = new ChainReader()
    const all = await audit.list({ owners: [], cursor: 0, limit: 100_000 })
    for (const entry of all) assert.equal(await reader.read(entry), undefined)
    return { first: reader.firstSeq, count: reader.count, problem: reader.end(await audit.head()), problems: (await audit.head()).problems }
  }
  const day = 86_400_000
  for (let index = 0; index < 30; index += 1) {
    await audit.record(ofOperator('operator.start', { index }))
    now += day
  }
  await audit.prune(10)
  assert.deepEqual(await verdict(), { first: 21, count: 11, problem: undefined, problems: [] })
  await audit.prune(1)
  assert.equal((await verdict()).count, 11, 'once a day is enough')
  now += 40 * day
  await audit.prune(10)
  assert.deepEqual(await verdict(), { first: 32, count: 2, problem: undefined, problems: [] })
  db.run('delete from audit where seq = 32')
  assert.equal((await verdict()).problem?.seq, 32)
  await audit.close()
  db.close()
  rmSync(folder, { recursive: true })
})

test('what is hashed of an entry depends on every part of it, and not on the order of its detail', () => {
  const entry = {
    ...{ seq: 1, at: 2, action: 'key.create', subject: 's', owner: 'o', outcome: 'ok', client: 'c', count: 1, prev: 'p' },
    actor: { owner: 'a', via: 'api_key' as const, id: 'i' },
    detail: { a: 1, b: ['x'] },
  }
  const text = auditText(entry)
  assert.equal(auditText({ ...entry, detail: { b: ['x'], a: 1 } }), text)
  const others = [
    ...Object.keys(entry)
      .filter((name) => name !== 'actor' && name !== 'detail')
      .map((name) => ({ ...entry, [name]: 'other' })),
    ...(['owner', 'via', 'id'] as const).map((name) => ({ ...entry, actor: { ...entry.actor, [name]: 'session' } })),
    { ...entry, detail: { a: 1, b: ['x', ''] } },
  ]
  for (const other of others) assert.notEqual(auditText(other), text)
})
