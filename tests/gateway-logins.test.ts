// Logins at a provider whose refresh tokens are good for one use: the operator alone uses them, for all sandboxes.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { GatewaySubject, post } from './gateway-subject.ts'
import { startOperator } from './start-operator.ts'
import { type Seen, startProvider, type TestProvider } from './test-provider.ts'

let provider: TestProvider
let subject: GatewaySubject
/** What the provider knows of the login. */
const issued = { refreshes: 0, refresh: 'refresh-token-0', access: '', isRevoked: false, isDown: false, lifeSeconds: 3600 }
const calls: Seen[] = []

function answerToken(seen: Seen): [status: number, body: object] {
  const fields =
    seen.headers['content-type'] === 'application/json'
      ? JSON.parse(String(seen.body))
      : Object.fromEntries(new URLSearchParams(String(seen.body)))
  if (issued.isDown) return [503, {}]
  // As a provider does that takes a second use of a refresh token for a theft.
  if (fields.refresh_token !== issued.refresh || fields.client_id !== 'client-1') issued.isRevoked = true
  if (issued.isRevoked || fields.grant_type !== 'refresh_token') return [400, { error: 'invalid_grant' }]
  issued.refreshes += 1
  issued.refresh = `refresh-token-${issued.refreshes}`
  issued.access = `access-token-${issued.refreshes}`
  return [200, { access_token: issued.access, refresh_token: issued.refresh, expires_in: issued.lifeSeconds, token_type: 'Bearer' }]
}

before(async () => {
  provider = await startProvider()
  provider.answer = (seen, response) => {
    const isToken = seen.url === '/token'
    if (!isToken) calls.push(seen)
    const isKnown = seen.headers.authorization === `Bearer ${issued.access}`
    const usage = { input_tokens: 1, output_tokens: 1 }
    const [status, body] = isToken ? answerToken(seen) : isKnown ? [200, { model: 'claude-1', usage }] : [401, { error: 'unknown token' }]
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
  subject = await GatewaySubject.start('namespace', provider)
  const { status, body, text } = await setLogin({})
  assert.equal(status, 200, text)
  assert.deepEqual([body.kind, body.last_four], ['oauth', ''])
})

after(async () => {
  await subject?.[Symbol.asyncDispose]()
  await provider?.[Symbol.asyncDispose]()
})

const setLogin = (more: object) => {
  const oauth = { refresh_token: issued.refresh, token_url: `${provider.url}/token`, client_id: 'client-1', ...more }
  const body = { oauth, base_url: provider.url, like: 'anthropic' }
  return subject.operator.call('PUT', '/api/services/default/provider-keys/custom:plan', { body })
}

const ask = async (headers = {}): Promise<number> => (await subject.ask('/custom:plan/v1/messages', post('{}', headers))).status

test('the first call fetches a token, which goes in as the provider wants it', async () => {
  assert.equal(await ask({ 'x-api-key': 'atoll-placeholder', 'anthropic-beta': 'tools-1' }), 200)
  const seen = calls.at(-1)
  assert.deepEqual([issued.refreshes, seen?.headers.authorization, seen?.headers['x-api-key']], [1, 'Bearer access-token-1', undefined])
  assert.equal(seen?.headers['anthropic-beta'], 'tools-1,oauth-2025-04-20')
  assert.equal(await ask(), 200)
  assert.equal(issued.refreshes, 1)
})

test('many calls of several sandboxes with an old token fetch one new one', async () => {
  await setLogin({ access_token: 'access-token-old', expires_at: 1 })
  const other = await subject.operator.newSandbox({ memory_mb: 512, disk_gb: 1 })
  const many = `console.log(JSON.stringify(await Promise.all(Array.from({ length: 50 }, () =>
    fetch('http://127.0.0.1:7077/custom:plan/v1/messages', { method: 'POST', body: '{}' }).then(async (r) => (await r.text(), r.status))))))`
  const statuses = await Promise.all([subject.script(many), subject.script(many, other)])
  assert.deepEqual(new Set(statuses.flat()), new Set([200]))
  assert.deepEqual([issued.refreshes, issued.isRevoked], [2, false])
})

test('a token that the provider does not take any more is replaced for the next call', async () => {
  issued.access = 'access-token-other'
  assert.equal(await ask(), 401)
  assert.equal(await ask(), 200)
  assert.deepEqual([issued.refreshes, issued.isRevoked], [3, false])
})

test('the next operator goes on with the last refresh token, also after kill -9', async () => {
  const { operator } = subject
  await operator.kill()
  subject.operator = await startOperator({
    runtime: 'namespace',
    folder: operator.folder,
    env: { ATOLL_TRUSTED_UPSTREAMS: provider.address },
  })
  issued.access = 'access-token-another'
  assert.equal(await ask(), 401)
  assert.equal(await ask(), 200)
  assert.deepEqual([issued.refreshes, issued.isRevoked], [4, false])
})

test('a provider that is down is said to be, and costs the login nothing', async () => {
  await setLogin({ format: 'json' })
  issued.isDown = true
  assert.equal(await ask(), 502)
  issued.isDown = false
  assert.equal(await ask(), 200)
  assert.deepEqual([issued.refreshes, issued.isRevoked], [5, false])
})

test('a login that the provider has ended is said to be', async () => {
  await setLogin({})
  issued.isRevoked = true
  const answer = await subject.ask('/custom:plan/v1/messages', post('{}'))
  assert.deepEqual([answer.status, JSON.parse(answer.text).error.code], [402, 'provider.login_expired'])
  issued.isRevoked = false
})

test('what is wrong with a login is said, and no token lies open', async () => {
  const put = async (body: object) => (await subject.operator.call('PUT', '/api/services/default/provider-keys/openai', { body })).status
  assert.equal(await put({}), 400)
  const oauth = { refresh_token: 'refresh-token-x', token_url: 'http://10.0.0.1/token', client_id: 'c' }
  assert.equal(await put({ oauth }), 400)
  assert.equal(await put({ key: 'sk-0123456789', oauth: { ...oauth, token_url: 'https://id.example.com/token' } }), 400)
  const shown = await subject.operator.call('GET', '/api/services/default/provider-keys')
  assert.doesNotMatch(shown.text, /refresh-token|access-token/)
  const state = path.join(subject.operator.folder, 'state')
  for (const name of readdirSync(state).filter((file) => file.startsWith('atoll.db'))) {
    assert.doesNotMatch(readFileSync(path.join(state, name), 'latin1'), /refresh-token-\d|access-token-\d/, name)
  }
})
