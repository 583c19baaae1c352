// A new sealing key: what was sealed stays readable, and what the old key vouched for ends.
import assert from 'node:assert/strict'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, test } from 'node:test'
import { Wallet } from '../operator/src/auth/testing/wallet.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

let operator: TestOperator

before(async () => {
  operator = await startOperator({ runtime: 'namespace' })
})

after(async () => {
  await operator?.[Symbol.asyncDispose]()
})

const rotate = (key = operator.adminKey) => operator.call('POST', '/api/sealing-key/rotate', { key, body: {} })

function sealedTexts(folder: string): string[] {
  const db = new DatabaseSync(path.join(folder, 'state/atoll.db'), { readOnly: true })
  const rows = db
    .prepare(
      'select env_sealed as sealed from sandboxes union all select secrets_sealed from sandboxes union all select sealed from provider_keys',
    )
    .all()
  db.close()
  return rows.flatMap(({ sealed }) => (sealed === null ? [] : [String(sealed)]))
}

async function signedIn(): Promise<string> {
  const wallet = new Wallet()
  const asked = await operator.call('POST', '/api/auth/challenge', { key: undefined, body: { address: wallet.address } })
  const answer = { nonce: asked.body.nonce, signature: wallet.sign(asked.body.message) }
  return (await operator.call('POST', '/api/auth/session', { key: undefined, body: answer })).body.token
}

test('everything is sealed under the new key and still read, API keys stay, sessions and preview links end', async () => {
  const id = await operator.newSandbox({ memory_mb: 256, env_json: { BASE: 'base' }, metadata_json: { ports: [3000] } })
  await operator.call('POST', `/api/sandboxes/${id}/secrets`, { body: { env_json: { TOKEN: 'token' } } })
  await operator.call('PUT', '/api/services/default/provider-keys/openai', { body: { key: 'sk-rotated-with-the-rest-0001' } })
  const session = await signedIn()
  const link = await operator.call('POST', `/api/sandboxes/${id}/ports/3000/preview`, { body: {} })
  const owner = await operator.newKey('ann')
  const old = new Set(sealedTexts(operator.folder).map((text) => text.split('.')[1]))
  assert.equal(old.size, 1)

  const refused = await rotate(owner)
  assert.deepEqual([refused.status, refused.body.code], [403, 'auth.forbidden'])
  const { body } = await rotate()
  assert.deepEqual([body.resealed, body.unreadable], [4, 0])
  assert.ok(!old.has(body.key_id))
  assert.deepEqual(new Set(sealedTexts(operator.folder).map((text) => text.split('.')[1])), new Set([body.key_id]))

  assert.equal((await operator.call('GET', '/api/sandboxes', { key: session })).status, 401)
  assert.equal((await operator.call('GET', '/api/sandboxes', { key: await signedIn() })).status, 200)
  const previewed = new URL(link.body.url)
  const preview = await operator.call('GET', `/api/sandboxes/${id}/port/3000/${previewed.search}`, { key: undefined })
  assert.deepEqual([preview.status, preview.body.code], [401, 'port.token_invalid'])
  assert.equal((await operator.call('GET', '/api/sandboxes', { key: owner })).status, 200)

  for (const round of ['at once', 'after a restart']) {
    await operator.call('POST', `/api/sandboxes/${id}/stop`, { body: {} })
    await operator.call('POST', `/api/sandboxes/${id}/resume`, { body: {} })
    const { body: shown } = await operator.call('POST', `/api/sandboxes/${id}/exec`, { body: { command: 'echo $BASE $TOKEN' } })
    assert.equal(shown.stdout, 'base token\n', round)
    if (round === 'after a restart') break
    await operator.stop()
    operator = await startOperator({ runtime: 'namespace', folder: operator.folder })
  }
  const { events } = (await operator.call('GET', '/api/events?limit=1000')).body
  const told = events.filter(({ type }: { type: string }) => type === 'sealing_key.rotated')
  assert.deepEqual(
    told.map(({ data }: { data: object }) => data),
    [{ by: 'admin', key_id: body.key_id, resealed: 4, unreadable: 0 }],
  )
})

test('a text that no key opens is counted, stays as it is, and holds nothing up', async () => {
  await operator.call('PUT', '/api/services/default/provider-keys/google', { body: { key: 'will-be-damaged-0001' } })
  await operator.stop()
  const damaged = 'v1.k00000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
  const db = new DatabaseSync(path.join(operator.folder, 'state/atoll.db'))
  db.prepare(`update provider_keys set sealed = ? where provider = 'google'`).run(damaged)
  db.close()
  operator = await startOperator({ runtime: 'namespace', folder: operator.folder })
  const { body } = await rotate()
  assert.deepEqual([body.resealed, body.unreadable], [4, 1])
  assert.ok(sealedTexts(operator.folder).includes(damaged))
})

test('a key of the environment is changed there, and everything sealed with the earlier one is sealed again', async () => {
  const [first, second] = ['a'.repeat(64), 'b'.repeat(64)]
  let other = await startOperator({ runtime: 'namespace', env: { SESSION_AUTH_SECRET: first } })
  const { folder } = other
  const restart = async (env: Record<string, string>): Promise<void> => {
    await other.stop()
    other = await startOperator({ runtime: 'namespace', folder, env })
  }
  const ask = () => other.call('POST', '/api/sealing-key/rotate', { body: {} })
  try {
    await other.call('PUT', '/api/services/default/provider-keys/openai', { body: { key: 'sk-of-the-environment-0001' } })
    const refused = await ask()
    assert.deepEqual([refused.status, refused.body.code], [409, 'config.invalid'])
    await restart({ SESSION_AUTH_SECRET: second, ATOLL_PREVIOUS_SESSION_SECRET: first })
    const { body } = await ask()
    assert.deepEqual([body.resealed, body.unreadable], [1, 0])
    assert.deepEqual(
      sealedTexts(folder).map((text) => text.split('.')[1]),
      [body.key_id],
    )
    await restart({ SESSION_AUTH_SECRET: second })
    assert.equal((await ask()).status, 409)
  } finally {
    await other[Symbol.asyncDispose]()
  }
})
