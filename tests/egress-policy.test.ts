// What a sandbox may reach, as its owner says it: whose it is to say, what is refused, and what stays.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { type CallOptions, startOperator, type TestOperator } from './start-operator.ts'

let operator: TestOperator
let owner: string
let sandbox: string

before(async () => {
  operator = await startOperator({ runtime: 'namespace' })
  owner = await operator.newKey('olga')
  sandbox = await operator.newSandbox({ memory_mb: 256 }, owner)
})

after(async () => {
  await operator?.[Symbol.asyncDispose]()
})

const call = (method: string, body?: object, options: CallOptions = {}, id = sandbox) =>
  operator.call(method, `/api/sandboxes/${id}/egress`, { key: owner, ...(body && { body }), ...options })

test('a sandbox reaches nothing until its owner says what, and the rules of presets are shown', async () => {
  assert.deepEqual((await call('GET')).body, { sandbox_id: sandbox, mode: 'none', rules: [], presets: [], effective_rules: [] })
  const rules = [{ host: 'Example.com' }, { host: '*.example.org:8443', methods: ['GET'], path_prefix: '/a' }]
  const set = await call('PUT', { mode: 'allowlist', rules, presets: ['npm'] })
  assert.equal(set.status, 200, set.text)
  const own = [{ host: 'example.com' }, rules[1]]
  assert.deepEqual(set.body, {
    sandbox_id: sandbox,
    mode: 'allowlist',
    rules: own,
    presets: ['npm'],
    effective_rules: [...own, { host: 'registry.npmjs.org', preset: 'npm' }],
  })
  assert.deepEqual((await call('GET')).body, set.body)
  const { body } = await operator.call('GET', `/api/sandboxes/${sandbox}/events`, { key: owner })
  const changed = body.events.find(({ type }: { type: string }) => type === 'egress.changed')
  assert.deepEqual(changed.data, { by: 'olga', mode: 'allowlist', rules: own, presets: ['npm'] })
  const single = await operator.call('GET', '/api/sandbox/egress', { key: owner })
  assert.deepEqual(single.body, set.body)
})

test('only who owns a sandbox sees and sets what it reaches, and who may only read sets nothing', async () => {
  const stranger = await operator.newKey('stan')
  const reader = await operator.newKey('olga', 'read')
  for (const method of ['GET', 'PUT']) {
    const answer = await call(method, method === 'PUT' ? { mode: 'internet' } : undefined, { key: stranger })
    assert.deepEqual([answer.status, answer.body.code], [404, 'sandbox.not_found'])
    assert.equal((await call(method, method === 'PUT' ? { mode: 'internet' } : undefined, { key: undefined })).status, 401)
  }
  assert.equal((await call('GET', undefined, { key: reader })).status, 200)
  assert.equal((await call('PUT', { mode: 'internet' }, { key: reader })).status, 403)
})

test('a policy that cannot be understood changes nothing', async () => {
  const before = (await call('GET')).body
  const bad = [
    ...[
      {},
      { mode: 'all' },
      { mode: 'allowlist', rules: [{ host: '*' }] },
      { mode: 'allowlist', rules: [{ host: 'https://example.com' }] },
    ],
    ...[
      { mode: 'allowlist', rules: [{ host: '169.254.169.254' }] },
      { mode: 'allowlist', rules: [{}] },
      { mode: 'none', presets: ['all'] },
    ],
    ...[
      { mode: 'allowlist', rules: [{ host: 'example.com', methods: ['CONNECT'] }] },
      { mode: 'none', more: 1 },
    ],
    ...[{ mode: 'allowlist', rules: [{ host: 'example.com', path_prefix: '/../x' }] }],
    { mode: 'allowlist', rules: Array.from({ length: 257 }, (_, index) => ({ host: `a${index}.example.com` })) },
  ]
  for (const body of bad) {
    const answer = await call('PUT', body)
    assert.deepEqual([answer.status, answer.body.code], [400, 'request.invalid'], JSON.stringify(body).slice(0, 100))
  }
  assert.deepEqual((await call('GET')).body, before)
})

test('what was said holds after the operator was killed, and ends with the sandbox', async () => {
  const said = (await call('GET')).body
  const before = operator
  await before.kill()
  operator = await startOperator({ runtime: 'namespace', folder: before.folder, env: { ATOLL_DEFAULT_EGRESS: 'npm, pypi' } })
  assert.deepEqual((await call('GET')).body, said)
  const other = await operator.newSandbox({ memory_mb: 256 }, owner)
  const usual = (await call('GET', undefined, {}, other)).body
  assert.deepEqual([usual.mode, usual.presets], ['allowlist', ['npm', 'pypi']])
  assert.equal((await operator.call('DELETE', `/api/sandboxes/${other}`, { key: owner })).status, 200)
  assert.equal((await call('PUT', { mode: 'internet' }, {}, other)).status, 404)
})

test('a sandbox can be made with what it may reach, and what was changed since is kept when the creation is asked for again', async () => {
  const headers = { 'idempotency-key': 'made-with-egress' }
  const body = { memory_mb: 256, disk_gb: 1, egress: { mode: 'allowlist', presets: ['debian'] } }
  const create = () => operator.call('POST', '/api/sandboxes', { key: owner, body, headers })
  const { id } = (await create()).body
  assert.deepEqual((await call('GET', undefined, {}, id)).body.presets, ['debian'])
  assert.equal((await call('PUT', { mode: 'none' }, {}, id)).status, 200)
  assert.equal((await create()).body.id, id)
  assert.equal((await call('GET', undefined, {}, id)).body.mode, 'none')
  const bad = await operator.call('POST', '/api/sandboxes', { key: owner, body: { ...body, egress: { mode: 'all' } } })
  assert.deepEqual([bad.status, bad.body.code], [400, 'request.invalid'])
})

test('an operator with a default that is none does not start', async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-test-'))
  try {
    const started = startOperator({ runtime: 'namespace', folder, env: { ATOLL_DEFAULT_EGRESS: 'everything' } })
    await assert.rejects(started, /ATOLL_DEFAULT_EGRESS must be/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
