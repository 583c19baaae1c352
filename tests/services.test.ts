// Services: whose they are, what their sandboxes may take, and provider keys that nobody reads again.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { type CallOptions, startOperator, type TestOperator } from './start-operator.ts'

let operator: TestOperator

before(async () => {
  operator = await startOperator({ runtime: 'namespace' })
})

after(async () => {
  await operator?.[Symbol.asyncDispose]()
})

const call = (method: string, target: string, options?: CallOptions) => operator.call(method, target, options)
const small = { memory_mb: 256, disk_gb: 1 }

/** A service that the admin makes. */
async function newService(spec: object): Promise<number> {
  const { status, body, text } = await call('POST', '/api/services', { body: { name: 'test', ...spec } })
  assert.equal(status, 201, text)
  return body.id
}

const outcome = ({ status, body }: { status: number; body: { code?: string } }) => [status, body.code]

test('who never heard of services has one, and sandboxes are made in it', async () => {
  const key = await operator.newKey('una')
  const sandbox = await operator.newSandbox(small, key)
  const { body } = await call('GET', '/api/services', { key })
  assert.equal(body.services.length, 1)
  const [service] = body.services
  assert.deepEqual([service.owner, service.name, service.mode, service.is_default], ['una', 'default', 'cloud', true])
  assert.deepEqual(new Set(Object.values(service.quotas)), new Set([0]))
  assert.equal((await call('GET', `/api/sandboxes/${sandbox}`, { key })).body.service_id, service.id)
  assert.deepEqual((await call('GET', '/api/services/default', { key })).body, service)
})

test('two first calls at once make one default service', async () => {
  const key = await operator.newKey('twice')
  const answers = await Promise.all(Array.from({ length: 8 }, () => call('GET', '/api/services/default', { key })))
  assert.equal(new Set(answers.map(({ body }) => body.id)).size, 1)
})

test('an owner sees and changes the own service, a member sees it, a stranger does not know that it is there, an admin sees all', async () => {
  const [owner, member, stranger, reader] = await Promise.all([
    operator.newKey('olga'),
    operator.newKey('mia'),
    operator.newKey('stan'),
    operator.newKey('olga', 'read'),
  ])
  const id = await newService({ owner: 'olga' })
  const target = `/api/services/${id}`
  const changed = await call('PATCH', target, { key: owner, body: { name: 'ours', members: ['mia', 'mia'] } })
  assert.deepEqual([changed.status, changed.body.name, changed.body.members], [200, 'ours', ['mia']])
  assert.equal((await call('GET', target, { key: member })).body.name, 'ours')
  assert.deepEqual(outcome(await call('PATCH', target, { key: member, body: { name: 'mine' } })), [403, 'auth.forbidden'])
  assert.deepEqual(outcome(await call('PATCH', target, { key: reader, body: { name: 'mine' } })), [403, 'auth.forbidden'])
  assert.deepEqual(outcome(await call('PUT', `${target}/provider-keys/openai`, { key: member, body: { key: 'sk-members-own' } })), [
    403,
    'auth.forbidden',
  ])
  const strange: [string, string, object?][] = [
    ['GET', target],
    ['PATCH', target, { name: 'mine' }],
    ['GET', `${target}/provider-keys`],
    ['GET', `${target}/provider-keys/openai`],
    ['PUT', `${target}/provider-keys/openai`, { key: 'sk-of-a-stranger' }],
    ['DELETE', `${target}/provider-keys/openai`],
    ['POST', '/api/sandboxes', { service_id: id, ...small }],
  ]
  for (const [method, where, body] of strange) {
    const answer = await call(method, where, { key: stranger, ...(body && { body }) })
    assert.deepEqual(outcome(answer), [404, 'service.not_found'], `${method} ${where}`)
  }
  for (const reference of ['0', '-1', '01', '1e3', '999999', '9'.repeat(40), 'olga']) {
    assert.deepEqual(outcome(await call('GET', `/api/services/${reference}`, { key: owner })), [404, 'service.not_found'], reference)
  }
  const idsFor = async (key: string): Promise<number[]> =>
    (await call('GET', '/api/services', { key })).body.services.map((service: { id: number }) => service.id)
  assert.ok((await idsFor(owner)).includes(id) && (await idsFor(member)).includes(id) && (await idsFor(operator.adminKey)).includes(id))
  assert.ok(!(await idsFor(stranger)).includes(id))
  assert.deepEqual(outcome(await call('POST', '/api/services', { key: owner, body: { name: 'x' } })), [403, 'auth.forbidden'])
  assert.deepEqual(outcome(await call('DELETE', target, { key: owner })), [403, 'auth.forbidden'])
})

test('a quota of sandboxes holds exactly under creations at once, and for members together with the owner', async () => {
  const [owner, member] = await Promise.all([operator.newKey('quinn'), operator.newKey('max')])
  const id = await newService({ owner: 'quinn', members: ['max'], quotas: { sandboxes: 2 } })
  const create = (key: string) => call('POST', '/api/sandboxes?wait=false', { key, body: { service_id: id, ...small } })
  const answers = await Promise.all([owner, member, owner, member, owner, member].map(create))
  assert.deepEqual(answers.map(({ status }) => status).sort(), [202, 202, 429, 429, 429, 429])
  const refused = answers.find(({ status }) => status === 429)
  assert.equal(refused?.body.code, 'capacity.quota')
  assert.match(refused.body.error, /may have 2 sandboxes, and would have 3/)
  const made = answers.filter(({ status }) => status === 202).map(({ body }) => body.id)
  assert.deepEqual(outcome(await call('DELETE', `/api/services/${id}`)), [409, 'service.in_use'])
  for (const sandbox of made) assert.equal((await call('DELETE', `/api/sandboxes/${sandbox}`)).status, 200)
  assert.equal((await call('DELETE', `/api/services/${id}`)).status, 200)
  assert.deepEqual(outcome(await call('GET', `/api/services/${id}`)), [404, 'service.not_found'])
})

test('memory is for those that run, disk also for stopped ones, and a resume is counted like a creation', async () => {
  const key = await operator.newKey('remy')
  const id = await newService({ owner: 'remy', quotas: { memory_mb: 300, disk_gb: 2 } })
  const create = () => call('POST', '/api/sandboxes', { key, body: small })
  const first = await create()
  assert.deepEqual([first.status, first.body.service_id], [201, id], 'the first service of an owner is the default one')
  assert.deepEqual(outcome(await create()), [429, 'capacity.quota'])
  assert.equal((await call('POST', `/api/sandboxes/${first.body.id}/stop`, { key, body: {} })).status, 200)
  const second = await create()
  assert.equal(second.status, 201, second.text)
  const resumed = await call('POST', `/api/sandboxes/${first.body.id}/resume`, { key, body: {} })
  assert.deepEqual(outcome(resumed), [429, 'capacity.quota'])
  await call('POST', `/api/sandboxes/${second.body.id}/stop`, { key, body: {} })
  const third = await create()
  assert.match(third.body.error, /2 GB of disk, and would have 3/)
  assert.equal((await call('PATCH', `/api/services/${id}`, { body: { quotas: { cpu_cores: 0.01 } } })).status, 200)
  assert.match((await call('POST', `/api/sandboxes/${first.body.id}/resume`, { key, body: {} })).body.error, /0\.01 CPU cores/)
})

test('an owner may lower a quota and not raise it, and what is not counted is refused', async () => {
  const key = await operator.newKey('lou')
  const id = await newService({ owner: 'lou', quotas: { sandboxes: 5 } })
  const ask = (quotas: object, by: string) => call('PATCH', `/api/services/${id}`, { key: by, body: { quotas } })
  assert.equal((await ask({ sandboxes: 3, memory_mb: 1000 }, key)).status, 200)
  for (const quotas of [{ sandboxes: 4 }, { sandboxes: 0 }, { memory_mb: 0 }]) {
    assert.deepEqual(outcome(await ask(quotas, key)), [403, 'auth.forbidden'], JSON.stringify(quotas))
  }
  const raised = await ask({ sandboxes: 0 }, operator.adminKey)
  assert.deepEqual([raised.body.quotas.sandboxes, raised.body.quotas.memory_mb], [0, 1000])
  for (const quotas of [{ sandboxes: -1 }, { sandboxes: 1.5 }, { tokens_per_day: -1 }, { runs: -1 }, { requests_per_day: 0.5 }]) {
    assert.deepEqual(outcome(await ask(quotas, operator.adminKey)), [400, 'request.invalid'], JSON.stringify(quotas))
  }
})

test('a quota of runs holds exactly for prompts at once, over all sandboxes of the service', async () => {
  const id = await newService({ quotas: { runs: 3 } })
  const sandboxes = await Promise.all([1, 2].map(() => operator.newSandbox({ ...small, service_id: id })))
  const start = (sandbox: string) =>
    call('POST', `/api/sandboxes/${sandbox}/agents/runs`, { body: { prompt: '[[plan:sleep,text]] wait', harness: 'echo' } })
  const answers = await Promise.all(Array.from({ length: 12 }, (_, index) => start(sandboxes[index % 2] ?? '')))
  assert.equal(answers.filter(({ status }) => status < 300).length, 3, answers[0]?.text)
  for (const answer of answers.filter(({ status }) => status >= 300)) assert.deepEqual(outcome(answer), [429, 'capacity.quota'])
  const begun = answers.findIndex(({ status }) => status < 300)
  const cancelled = await call('POST', `/api/sandboxes/${sandboxes[begun % 2]}/agents/runs/${answers[begun]?.body.id}/cancel`)
  assert.equal(cancelled.status, 200, cancelled.text)
  assert.ok((await start(sandboxes[0] ?? '')).status < 300)
  for (const sandbox of sandboxes) await call('DELETE', `/api/sandboxes/${sandbox}`)
})

test('a service of mode instance has one sandbox, and one of mode tee-instance needs a confidential machine', async () => {
  const key = await operator.newKey('ines')
  const id = await newService({ owner: 'ines', mode: 'instance' })
  const create = () => call('POST', '/api/sandboxes', { key, body: { service_id: id, ...small } })
  assert.equal((await create()).status, 201)
  assert.deepEqual(outcome(await create()), [429, 'capacity.quota'])
  const confidential = await call('POST', '/api/services', { body: { name: 'secret', mode: 'tee-instance' } })
  assert.deepEqual(outcome(confidential), [501, 'runtime.unsupported'])
})

test('who is no member any more cannot start sandboxes in the service again', async () => {
  const [owner, member] = await Promise.all([operator.newKey('ora'), operator.newKey('ned')])
  const id = await newService({ owner: 'ora', members: ['ned'] })
  const sandbox = await operator.newSandbox({ service_id: id, ...small }, member)
  assert.equal((await call('POST', `/api/sandboxes/${sandbox}/stop`, { key: member, body: {} })).status, 200)
  await call('PATCH', `/api/services/${id}`, { key: owner, body: { members: [] } })
  assert.deepEqual(outcome(await call('POST', `/api/sandboxes/${sandbox}/resume`, { key: member, body: {} })), [404, 'service.not_found'])
})

test('a provider key is listed by its last four, replaced, removed, and nowhere to be read again', async () => {
  const key = await operator.newKey('petra')
  const target = '/api/services/default/provider-keys'
  const planted = ['sk-planted-canary-value-0001', 'sk-planted-canary-value-0002', 'sk-planted-canary-value-0003', 'sk-short']
  const set = (provider: string, body: object) => call('PUT', `${target}/${encodeURIComponent(provider)}`, { key, body })
  assert.equal((await set('anthropic', { key: planted[0] })).body.last_four, '0001')
  const replaced = await set('anthropic', { key: planted[1] })
  assert.deepEqual([replaced.status, replaced.body.last_four, replaced.body.last_used_at], [200, '0002', null])
  const custom = await set('custom:local', { key: planted[2], base_url: 'https://models.example.com/v1/', like: 'anthropic' })
  assert.equal(custom.body.base_url, 'https://models.example.com/v1')
  assert.equal((await set('google', { key: planted[3] })).body.last_four, '', 'four of eight would be half of it')
  const listed = await call('GET', target, { key })
  assert.deepEqual(
    listed.body.provider_keys.map((one: { provider: string }) => one.provider),
    ['anthropic', 'custom:local', 'google'],
  )
  assert.equal((await call('GET', `${target}/custom%3Alocal`, { key })).body.last_four, '0003')
  for (let round = 0; round < 2; round += 1) assert.equal((await call('DELETE', `${target}/google`, { key })).status, 200)
  assert.deepEqual(outcome(await call('GET', `${target}/google`, { key })), [404, 'provider.no_key'])

  const answers = [listed.text, replaced.text, custom.text, (await call('GET', '/api/events?limit=1000')).text]
  const files = await Promise.all(
    ['operator.log', 'state/atoll.db', 'state/atoll.db-wal'].map((name) => readFile(path.join(operator.folder, name))),
  )
  for (const value of planted) for (const text of [...answers, ...files]) assert.ok(!text.includes(value))
  assert.ok(
    files.some((bytes) => bytes.includes('custom:local')),
    'the look finds what is there',
  )
})

test('what is wrong with a provider or its address is said, and nothing is kept', async () => {
  const key = await operator.newKey('perry')
  const wrong: [string, object, string][] = [
    ['nobody', {}, 'provider.unknown'],
    ['custom:UPPER', { base_url: 'https://a.example.com' }, 'provider.unknown'],
    ['openai', { base_url: 'https://a.example.com' }, 'provider.invalid'],
    ['custom:a', {}, 'provider.invalid'],
    ['custom:a', { base_url: 'http://a.example.com' }, 'provider.invalid'],
    ['custom:a', { base_url: 'https://u:p@a.example.com' }, 'provider.invalid'],
    ['custom:a', { base_url: 'https://127.0.0.1' }, 'provider.invalid'],
    ['custom:a', { base_url: 'https://a.example.com', like: 'nobody' }, 'provider.invalid'],
    ['openai', { key: 'has a space' }, 'request.invalid'],
    ['openai', { key: 'line\r\nbreak-in-header' }, 'request.invalid'],
  ]
  for (const [provider, body, code] of wrong) {
    const target = `/api/services/default/provider-keys/${encodeURIComponent(provider)}`
    const answer = await call('PUT', target, { key, body: { key: 'sk-long-enough-to-be-one', ...body } })
    assert.deepEqual(outcome(answer), [400, code], `${provider} ${JSON.stringify(body)}`)
  }
  assert.deepEqual((await call('GET', '/api/services/default/provider-keys', { key })).body.provider_keys, [])
})

test('what was done to a service is told by events, with who did it', async () => {
  const key = await operator.newKey('eva')
  const id = await newService({ owner: 'eva' })
  const keys = `/api/services/${id}/provider-keys/openai`
  await call('PATCH', `/api/services/${id}`, { body: { quotas: { sandboxes: 7 } } })
  await call('PUT', keys, { key, body: { key: 'sk-event-test-value-0001' } })
  await call('DELETE', keys, { key })
  await call('DELETE', keys, { key })
  await call('DELETE', `/api/services/${id}`)
  const { body } = await call('GET', '/api/events', { key })
  assert.deepEqual(
    body.events.map(({ type, data }: { type: string; data: { by: string; service_id: number } }) => [type, data.by, data.service_id]),
    [
      ['service.created', 'admin', id],
      ['service.changed', 'admin', id],
      ['service.provider_key_set', 'eva', id],
      ['service.provider_key_removed', 'eva', id],
      ['service.removed', 'admin', id],
    ],
  )
  assert.deepEqual(body.events[2].data.provider, 'openai')
})

test('services and keys survive a restart', async () => {
  const key = await operator.newKey('rhea')
  await call('PUT', '/api/services/default/provider-keys/openrouter', { key, body: { key: 'sk-restart-test-value-0009' } })
  const before = await call('GET', '/api/services/default/provider-keys', { key })
  await operator.stop()
  operator = await startOperator({ runtime: 'namespace', folder: operator.folder })
  assert.deepEqual((await call('GET', '/api/services/default/provider-keys', { key })).body, before.body)
})
