// The SDK against a real operator with real sandboxes.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Atoll, ConnectionFailure, Failure, type FailureCode, type Provision } from '@atoll/sdk'
import { startOperator, type TestOperator } from '../../tests/start-operator.ts'

let operator: TestOperator
let atoll: Atoll

before(async () => {
  operator = await startOperator({ runtime: 'namespace' })
  atoll = new Atoll({ url: operator.url, apiKey: operator.adminKey })
})

after(() => operator?.[Symbol.asyncDispose]())

const size = { memoryMb: 512, diskGb: 1 }
const isCode = (code: FailureCode) => (error: unknown) => error instanceof Failure && error.code === code

async function toArray<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

test('a sandbox is made with its progress, found again, and gone after its block', async () => {
  const seen: Provision['phase'][] = []
  let id = ''
  {
    await using sandbox = await atoll.sandboxes.create(
      { ...size, name: 'made', metadata: { team: 'blue' }, env: { GREETING: 'hi' } },
      { onProgress: ({ phase }) => seen.push(phase) },
    )
    id = sandbox.id
    assert.equal(sandbox.info.status, 'running')
    assert.equal(sandbox.name, 'made')
    assert.equal((await sandbox.run('echo $GREETING')).stdout, 'hi\n')
    assert.equal((await atoll.sandboxes.get(id)).id, id)
    const blue = await toArray(atoll.sandboxes.list({ metadata: { team: 'blue' }, state: 'running' }))
    assert.deepEqual(
      blue.map((one) => one.id),
      [id],
    )
    assert.deepEqual(await toArray(atoll.sandboxes.list({ metadata: { team: 'red' } })), [])
  }
  assert.equal(seen.at(-1), 'ready')
  await assert.rejects(atoll.sandboxes.get(id), isCode('sandbox.not_found'))
})

test('the same idempotency key gives the same sandbox, also at the same time', async () => {
  const options = { idempotencyKey: 'one-of-a-kind' }
  const [first, second] = await Promise.all([atoll.sandboxes.create(size, options), atoll.sandboxes.create(size, options)])
  await using sandbox = first
  assert.equal(second.id, sandbox.id)
  await assert.rejects(atoll.sandboxes.create({ ...size, name: 'other' }, options), isCode('idempotency.mismatch'))
})

test('a list reads every page', async () => {
  await using first = await atoll.sandboxes.create({ ...size, metadata: { pages: true } })
  await using second = await atoll.sandboxes.create({ ...size, metadata: { pages: true } })
  const found = await toArray(atoll.sandboxes.list({ metadata: { pages: true }, pageSize: 1 }))
  assert.deepEqual(
    found.map(({ id }) => id),
    [second.id, first.id],
  )
})

test('a sandbox that cannot be made says why, with and without progress', async () => {
  const spec = { ...size, memoryMb: 16_000_000 }
  await assert.rejects(atoll.sandboxes.create(spec), isCode('sandbox.too_large'))
  await assert.rejects(atoll.sandboxes.create(spec, { onProgress: () => undefined }), isCode('sandbox.too_large'))
})

test('a stopped sandbox keeps its files, refuses commands, and runs again after resume', async () => {
  await using sandbox = await atoll.sandboxes.create(size)
  await sandbox.run('echo kept > note')
  await sandbox.stop()
  assert.equal(sandbox.info.status, 'stopped')
  await assert.rejects(sandbox.exec('true'), isCode('sandbox.not_running'))
  await sandbox.resume()
  assert.equal(sandbox.info.status, 'running')
  assert.equal((await sandbox.exec('cat note')).stdout, 'kept\n')
})

test('what happens to a sandbox can be followed', async () => {
  await using sandbox = await atoll.sandboxes.create(size)
  const types: string[] = []
  for await (const event of sandbox.events()) {
    types.push(event.type)
    if (event.type === 'sandbox.running') await sandbox.stop()
    if (event.type === 'sandbox.stopped') break
  }
  assert.ok(types.indexOf('sandbox.running') < types.indexOf('sandbox.stopped'), types.join())
})

test('a snapshot is made once, found, begun with and forgotten, and forks are sandboxes of their own', async () => {
  await using sandbox = await atoll.sandboxes.create({ ...size, metadata: { team: 'red' } })
  await sandbox.files.write('file', 'kept')
  const kept = await sandbox.snapshot({ name: 'one', idempotencyKey: 'once' })
  assert.deepEqual([kept.state, kept.name, kept.sandbox_id], ['ready', 'one', sandbox.id])
  assert.equal((await sandbox.snapshot({ name: 'one', idempotencyKey: 'once' })).id, kept.id)
  const second = await sandbox.snapshot()
  const listed = await toArray(atoll.snapshots.list({ sandboxId: sandbox.id, pageSize: 1 }))
  assert.deepEqual(
    listed.map(({ id }) => id),
    [second.id, kept.id],
  )
  await using begun = await atoll.sandboxes.create({ snapshot: kept.id })
  assert.deepEqual([await begun.files.readText('file'), begun.info.metadata['team']], ['kept', 'red'])
  const forks = await begun.fork(2)
  for (const fork of forks) assert.equal(await fork.files.readText('file'), 'kept')
  for (const { id } of listed) await atoll.snapshots.delete(id)
  await assert.rejects(atoll.snapshots.get(kept.id), isCode('snapshot.not_found'))
  for (const fork of forks) await fork.delete()
})

test('secrets reach later commands, and go again', async () => {
  await using sandbox = await atoll.sandboxes.create(size)
  await sandbox.secrets.set({ TOKEN: 's3cret' })
  assert.deepEqual(await sandbox.secrets.get(), { TOKEN: 's3cret' })
  assert.equal((await sandbox.exec('echo $TOKEN')).stdout, 's3cret\n')
  await sandbox.secrets.wipe()
  assert.equal((await sandbox.exec('echo [$TOKEN]')).stdout, '[]\n')
})

test('keys are made, listed and revoked, and a wrong key is refused', async () => {
  const made = await atoll.keys.create({ name: 'laptop', scope: 'read', ttlSeconds: 3600 })
  const reader = new Atoll({ url: operator.url, apiKey: made.key })
  assert.deepEqual(await toArray(reader.sandboxes.list({ metadata: { nothing: 'has this' } })), [])
  await assert.rejects(reader.sandboxes.create(), isCode('auth.forbidden'))
  assert.ok((await atoll.keys.list()).some(({ id }) => id === made.id))
  await atoll.keys.revoke(made.id)
  await assert.rejects(toArray(reader.sandboxes.list()), isCode('auth.invalid'))
})

test('the operator says what it can do, and one that is not there is named', async () => {
  const { runtimes } = await atoll.capabilities()
  assert.ok(runtimes.some(({ name, available }) => name === 'namespace' && available))
  const nobody = new Atoll({ url: 'http://127.0.0.1:1' })
  await assert.rejects(nobody.sandboxes.get('x'), ConnectionFailure)
})

test('what a sandbox may reach is said when it is made, changed, and bound to secrets that are not shown', async () => {
  await using sandbox = await atoll.sandboxes.create({ ...size, egress: { presets: ['npm'] } })
  assert.deepEqual((await sandbox.egress.get()).effective_rules, [{ host: 'registry.npmjs.org', preset: 'npm' }])
  const rules = [{ host: 'api.example.com', methods: ['GET' as const], pathPrefix: '/v1' }]
  const changed = await sandbox.egress.set({ rules })
  assert.deepEqual([changed.mode, changed.rules], ['allowlist', [{ host: 'api.example.com', methods: ['GET'], path_prefix: '/v1' }]])
  const bound = await sandbox.egress.setBindings([{ host: 'api.example.com', header: 'X-Key', value: 'a secret' }])
  assert.deepEqual(bound, [{ host: 'api.example.com', header: 'x-key' }])
  assert.deepEqual(await sandbox.egress.bindings(), bound)
  await assert.rejects(sandbox.egress.set({ rules: [{ host: '127.0.0.1' }] }), isCode('request.invalid'))
  assert.equal((await sandbox.egress.set({})).mode, 'none')
})
