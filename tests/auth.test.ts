// Sign-in, keys and what guards the HTTP server, on a real operator.
import assert from 'node:assert/strict'
import { readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { Wallet } from '../operator/src/auth/testing/wallet.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

let operator: TestOperator
before(async () => {
  operator = await startOperator({
    runtime: 'namespace',
    env: { ATOLL_RATE_LIMITS: 'on', ATOLL_RATE_AUTH: '50', ATOLL_TRUSTED_PROXIES: '' },
  })
})
after(() => operator[Symbol.asyncDispose]())

/** Signs a wallet in at an operator. */
async function signInAt(at: TestOperator, wallet: Wallet) {
  const { body } = await at.call('POST', '/api/auth/challenge', { body: { address: wallet.address } })
  const answer = { nonce: body.nonce, signature: wallet.sign(body.message) }
  return at.call('POST', '/api/auth/session', { body: answer })
}

const post = (target: string, body: unknown, key?: string) => operator.call('POST', target, { body, key })

async function signIn(wallet = new Wallet()) {
  const challenge = await post('/api/auth/challenge', { address: wallet.address })
  const signature = wallet.sign(challenge.body.message)
  const session = await post('/api/auth/session', {
    address: wallet.address,
    signature,
    challenge: challenge.body.message,
    nonce: challenge.body.nonce,
  })
  return { wallet, challenge, session }
}

test('a wallet signs in as the reference client does, and sees only its own', async () => {
  const { wallet, challenge, session } = await signIn()
  assert.match(challenge.body.nonce, /^[0-9a-f]{64}$/)
  assert.ok(challenge.body.message.includes(challenge.body.nonce))
  assert.ok(challenge.body.message.includes(new URL(operator.url).host), 'the text names this operator')
  assert.equal(session.status, 200, session.text)
  assert.match(session.body.token, /^v4\.local\./)
  assert.equal(session.body.address, wallet.address.toLowerCase())
  const { status, body } = await operator.call('GET', '/api/sandboxes', { key: session.body.token })
  assert.deepEqual([status, body.sandboxes], [200, []])
})

test('where the operator names its wallets, no other gets in', async () => {
  const [known, stranger] = [new Wallet(), new Wallet()]
  await using closed = await startOperator({
    runtime: 'namespace',
    env: { ATOLL_WALLETS: known.address.toUpperCase().replace('0X', '0x') },
  })
  assert.equal((await signInAt(closed, known)).status, 200)
  const { status, body } = await signInAt(closed, stranger)
  assert.deepEqual([status, body.code], [403, 'auth.forbidden'])
})

test('a challenge is good once, for its own signature', async () => {
  const { challenge, session } = await signIn()
  assert.equal(session.status, 200)
  const replay = await post('/api/auth/session', { nonce: challenge.body.nonce, signature: `0x${'11'.repeat(65)}` })
  assert.deepEqual([replay.status, replay.body.code], [401, 'auth.challenge_invalid'])
  const { body } = await post('/api/auth/challenge', { address: new Wallet().address })
  const stolen = await post('/api/auth/session', { nonce: body.nonce, signature: new Wallet().sign(body.message) })
  assert.equal(stolen.status, 401)
})

test('a session survives a restart, and a revoked one stays revoked over it', async () => {
  const kept = (await signIn()).session.body.token
  const revoked = (await signIn()).session.body.token
  const drop = (token: string) => operator.call('DELETE', '/api/auth/session', { key: token, body: {} })
  assert.deepEqual((await drop(revoked)).body, { revoked: true })
  assert.equal((await drop('v4.local.nonsense')).body.revoked, false)
  await operator.stop()
  const { folder } = operator
  operator = await startOperator({ runtime: 'namespace', folder, env: { ATOLL_RATE_LIMITS: 'on', ATOLL_RATE_AUTH: '50' } })
  assert.equal((await operator.call('GET', '/api/sandboxes', { key: kept })).status, 200)
  assert.equal((await operator.call('GET', '/api/sandboxes', { key: revoked })).status, 401)
})

test('the state folder is for its owner only, and the key in it works', async () => {
  for (const file of ['admin-key', 'keys.json', 'atoll.db']) {
    assert.equal((await stat(path.join(operator.folder, 'state', file))).mode & 0o077, 0, file)
  }
  assert.equal((await operator.call('GET', '/api/keys')).status, 200)
})

test('an API key is shown once, and stops working when it is revoked', async () => {
  const made = await post('/api/keys', { name: 'ci', owner: 'carol' }, operator.adminKey)
  assert.equal(made.status, 201)
  const { key, id } = made.body
  assert.equal((await operator.call('GET', '/api/sandboxes', { key })).status, 200)
  assert.equal((await operator.call('GET', '/api/sandboxes', { key: undefined, headers: { 'x-api-key': key } })).status, 200)
  const { text } = await operator.call('GET', '/api/keys')
  assert.ok(text.includes(id) && !text.includes(key))
  const { body: second } = await post('/api/keys', { name: 'made with it' }, key)
  assert.equal(second.made_by, id)
  assert.equal((await operator.call('DELETE', `/api/keys/${id}`, { key })).status, 200)
  assert.equal((await operator.call('GET', '/api/sandboxes', { key: second.key })).status, 401, 'a key takes those with it that it made')
  assert.equal((await operator.call('GET', '/api/sandboxes', { key })).status, 401)
})

test('the 31st write of a minute by a wallet is refused with the time to wait', async () => {
  const { session } = await signIn()
  let refused: Awaited<ReturnType<typeof post>> | undefined
  for (let index = 0; index < 40 && !refused; index += 1) {
    const answer = await post('/api/sandboxes/nothing/stop', {}, session.body.token)
    if (answer.status === 429) refused = answer
  }
  assert.equal(refused?.body.code, 'request.rate_limited')
  assert.ok(refused.body.retry_after_ms > 0 && Number(refused.headers.get('retry-after')) > 0)
  assert.match((await operator.call('GET', '/metrics')).text, /^rate_limit_rejections_total [1-9]/m)
})

test('a page that made its name point here is refused', async () => {
  const { hostname, port } = new URL(operator.url)
  const answer = await rawGet(hostname, Number(port), 'GET /health HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n')
  assert.match(answer, /^HTTP\/1\.1 403 /)
  assert.match(answer, /request\.host_refused/)
})

async function rawGet(host: string, port: number, request: string): Promise<string> {
  const { connect } = await import('node:net')
  const socket = connect(port, host)
  socket.write(request)
  let text = ''
  for await (const chunk of socket) text += chunk
  return text
}

test('browsers of the allowed origins may call, others may not', async () => {
  const headers = { origin: 'http://localhost:3000', 'access-control-request-method': 'PUT' }
  const allowed = await operator.call('OPTIONS', '/api/sandboxes', { key: undefined, headers })
  assert.equal(allowed.status, 204)
  assert.equal(allowed.headers.get('access-control-allow-origin'), 'http://localhost:3000')
  assert.match(allowed.headers.get('access-control-allow-methods') ?? '', /PUT/)
  const other = await operator.call('GET', '/health', { key: undefined, headers: { origin: 'http://evil.example' } })
  assert.equal(other.status, 403)
})

test('every answer has a request id and the security headers', async () => {
  const ids = new Set<string | null>()
  for (const target of ['/health', '/api/sandboxes', '/nothing', '/metrics', '/openapi.json']) {
    const { headers } = await operator.call('GET', target, { key: undefined })
    ids.add(headers.get('x-request-id'))
    assert.equal(headers.get('x-content-type-options'), 'nosniff', target)
    assert.equal(headers.get('x-frame-options'), 'DENY', target)
    assert.equal(headers.get('cache-control'), 'no-store', target)
  }
  assert.equal(ids.size, 5)
  assert.ok(!ids.has(null))
})

test('health, readiness, capabilities and metrics say what was probed', async () => {
  const health = await operator.call('GET', '/health', { key: undefined })
  assert.equal(health.status, 200, health.text)
  assert.equal(health.body.runtime_backend, 'namespace')
  assert.deepEqual((await operator.call('GET', '/readyz', { key: undefined })).body, { status: 'ready' })
  const { body } = await operator.call('GET', '/api/capabilities', { key: undefined })
  const probe = body.runtimes.find(({ name }: { name: string }) => name === 'namespace')
  assert.equal(probe.available, true)
  assert.equal(probe.default, true)
  assert.match(probe.isolation, /weaker/)
  assert.deepEqual([body.capabilities, body.harnesses], [[], []], 'nothing is advertised that was not probed')
  const { text } = await operator.call('GET', '/metrics', { key: undefined })
  for (const name of [
    'sandbox_active_sandboxes',
    'sandbox_allocated_memory_mb',
    'sandbox_total_jobs',
    'http_requests_total',
    'http_request_duration_ms_bucket',
  ]) {
    assert.match(text, new RegExp(`^${name}`, 'm'))
  }
})

test('no secret is in the log', async () => {
  const planted = 'planted-secret-value-4711'
  const sandbox = await operator.newSandbox({ env_json: { PLANTED: planted } })
  await operator.call('POST', `/api/sandboxes/${sandbox}/secrets`, { body: { env_json: { OTHER: `${planted}-2` } } })
  await operator.call('POST', `/api/sandboxes/${sandbox}/exec`, { body: { command: 'true', env_json: { THIRD: `${planted}-3` } } })
  const log = await readFile(path.join(operator.folder, 'operator.log'), 'utf8')
  const db = await readFile(path.join(operator.folder, 'state/atoll.db'))
  const wal = await readFile(path.join(operator.folder, 'state/atoll.db-wal')).catch(() => Buffer.alloc(0))
  assert.ok(log.includes(sandbox))
  for (const text of [planted, operator.adminKey]) {
    assert.ok(!log.includes(text))
    assert.ok(!db.includes(text) && !wal.includes(text))
  }
})
