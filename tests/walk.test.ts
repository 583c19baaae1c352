// Every route of the OpenAPI document, asked without a credential, by a stranger, and with a key that may only read.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startOperator, type TestOperator } from './start-operator.ts'

let operator: TestOperator
let sandbox: string
let ann: string
let stranger: string
let reader: string

interface Walked {
  readonly method: string
  readonly path: string
  readonly access: string
  readonly isSandbox: boolean
}
let walked: Walked[]

/** A body that fits no schema and would do no harm if it did. */
const harmless = { unknown_field: true }

before(async () => {
  operator = await startOperator({ runtime: 'namespace' })
  ann = await operator.newKey('ann')
  stranger = await operator.newKey('stranger')
  reader = await operator.newKey('ann', 'read')
  sandbox = await operator.newSandbox({ metadata_json: { ports: [3000] } }, ann)
  const { body } = await operator.call('GET', '/openapi.json')
  walked = Object.entries<Record<string, { 'x-access': string }>>(body.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path: path
        .replace('{id}', sandbox)
        .replace('{port}', '3000')
        .replace('{call_id}', '1')
        .replaceAll(/\{\w+\}/g, 'nothing'),
      access: operation['x-access'],
      isSandbox: path.startsWith('/api/sandboxes/{id}'),
    })),
  )
})

after(() => operator[Symbol.asyncDispose]())

const ask = ({ method, path }: Walked, key: string | undefined) =>
  operator.call(method, path, { key, ...(method !== 'GET' && { body: harmless }) })

test('the document names the routes that are promised', () => {
  assert.ok(walked.length > 60, `only ${walked.length} operations`)
})

test('without a credential every route but the public ones answers 401 with a code', async () => {
  for (const route of walked) {
    const { status, body } = await ask(route, undefined)
    if (route.access === 'public') assert.notEqual(status, 401 + 1000, route.path)
    else assert.deepEqual([status, body?.code], [401, 'auth.missing'], `${route.method} ${route.path}`)
  }
})

test('a wrong credential answers 401 everywhere, and says no more', async () => {
  for (const route of walked.filter(({ access }) => access !== 'public')) {
    for (const key of ['nonsense', 'v4.local.AAAA', `atoll_o_${'0'.repeat(72)}`]) {
      const { status, body } = await ask(route, key)
      assert.deepEqual([status, body?.code], [401, 'auth.invalid'], `${route.method} ${route.path}`)
    }
  }
})

test("somebody else's sandbox answers 404 on every route, like one that does not exist", async () => {
  for (const route of walked.filter(({ isSandbox }) => isSandbox)) {
    const theirs = await ask(route, stranger)
    const missing = await ask({ ...route, path: route.path.replace(sandbox, 'sandbox-that-never-was') }, stranger)
    assert.deepEqual([theirs.status, theirs.body?.code], [404, 'sandbox.not_found'], `${route.method} ${route.path}`)
    assert.deepEqual([missing.status, missing.body?.code], [404, 'sandbox.not_found'], `${route.method} ${route.path}`)
  }
  for (const path of [`/api/sandboxes/${sandbox}/port/3000/`, `/api/sandboxes/${sandbox}/port/3000/a?b`]) {
    assert.equal((await operator.call('GET', path, { key: stranger })).status, 404)
    assert.equal((await operator.call('GET', path, { key: undefined })).status, 401)
  }
})

test('a stranger sees nothing of others in any list', async () => {
  for (const path of ['/api/sandboxes', '/api/provisions', '/api/events', '/api/sandboxes?state=creating,running,stopped,ended']) {
    const { status, text } = await operator.call('GET', path, { key: stranger })
    assert.equal(status, 200)
    assert.ok(!text.includes(sandbox), path)
  }
  assert.equal((await operator.call('GET', '/api/keys', { key: stranger })).body.keys.length, 1)
  assert.equal((await operator.call('GET', '/api/provisions/1', { key: stranger })).status, 404)
  assert.equal((await operator.call('GET', '/api/provisions/1', { key: undefined })).status, 404)
})

test('a read key reads and changes nothing', async () => {
  const before = await operator.call('GET', `/api/sandboxes/${sandbox}`, { key: ann })
  for (const route of walked.filter(({ access }) => access === 'write' || access === 'admin')) {
    const { status, body } = await ask(route, reader)
    assert.deepEqual([status, body?.code], [403, 'auth.forbidden'], `${route.method} ${route.path}`)
  }
  assert.equal((await operator.call('GET', `/api/sandboxes/${sandbox}/port/3000/`, { key: reader })).status, 403)
  const { status, body } = await operator.call('GET', `/api/sandboxes/${sandbox}`, { key: reader })
  assert.equal(status, 200)
  assert.equal(body.status, before.body.status)
})

test('an owner cannot make an admin key, nor a key for somebody else', async () => {
  for (const body of [{ scope: 'admin' }, { owner: 'bob' }]) {
    assert.equal((await operator.call('POST', '/api/keys', { key: ann, body })).body.code, 'auth.forbidden')
  }
})

test('an admin sees the sandboxes of all', async () => {
  const { body } = await operator.call('GET', '/api/sandboxes')
  assert.ok(body.sandboxes.some(({ id }: { id: string }) => id === sandbox))
})

test('an unknown route and a wrong method answer JSON', async () => {
  for (const [method, path] of [
    ['GET', '/api/nothing'],
    ['PUT', '/api/sandboxes'],
    ['GET', '/%'],
  ] as const) {
    const { status, body } = await operator.call(method, path)
    assert.equal(status, 404)
    assert.equal(body.code, 'route.not_found')
  }
})
