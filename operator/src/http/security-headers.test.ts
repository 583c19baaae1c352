import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  corsHeaders,
  corsRule,
  isAllowedHost,
  isAllowedOrigin,
  loopbackHosts,
  preflightHeaders,
  securityHeaders,
} from './security-headers.ts'

test('the security headers are those that the reference operator sends', () => {
  assert.deepEqual(securityHeaders, {
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'cache-control': 'no-store',
    'strict-transport-security': 'max-age=63072000; includeSubDomains',
  })
})

const exposed = 'x-request-id, retry-after, last-event-id'
const letIn = (origin: string) => ({
  vary: 'origin',
  'access-control-allow-origin': origin,
  'access-control-allow-credentials': 'true',
  'access-control-expose-headers': exposed,
})

test('without a setting, the development servers of this machine may call', () => {
  const rule = corsRule(' ')
  for (const host of ['localhost', '127.0.0.1']) {
    for (const port of [1338, 3000, 5173]) {
      assert.deepEqual(corsHeaders(`http://${host}:${port}`, rule), letIn(`http://${host}:${port}`))
    }
  }
  for (const origin of [undefined, 'null', 'http://localhost', 'https://localhost:3000', 'http://localhost:3000.evil.example']) {
    assert.deepEqual(corsHeaders(origin, rule), { vary: 'origin' })
  }
})

test('a star lets every origin in, without credentials', () => {
  assert.deepEqual(corsHeaders('https://a.example', corsRule('*')), {
    'access-control-allow-origin': '*',
    'access-control-expose-headers': exposed,
  })
})

test('none leaves only http://localhost', () => {
  for (const setting of ['none', 'NONE']) {
    assert.deepEqual(corsHeaders('http://localhost', corsRule(setting)), letIn('http://localhost'))
    assert.deepEqual(corsHeaders('http://localhost:3000', corsRule(setting)), { vary: 'origin' })
  }
})

test('a list lets exactly its origins in', () => {
  const rule = corsRule('https://a.example, https://b.example:8443/ ,')
  assert.deepEqual(corsHeaders('https://a.example', rule), letIn('https://a.example'))
  assert.deepEqual(corsHeaders('https://b.example:8443', rule), letIn('https://b.example:8443'))
  for (const origin of ['https://b.example', 'http://a.example', 'https://xa.example', '']) {
    assert.deepEqual(corsHeaders(origin, rule), { vary: 'origin' })
  }
})

test('a preflight allows every method of the port proxy and every header that clients send', () => {
  assert.equal(preflightHeaders['access-control-allow-methods'], 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS')
  for (const name of ['authorization', 'content-type', 'accept', 'idempotency-key', 'last-event-id', 'x-api-key', 'range']) {
    assert.ok(preflightHeaders['access-control-allow-headers'].split(', ').includes(name), name)
  }
})

test('a host is allowed by its name, whatever its port and case', () => {
  const allowed = [...loopbackHosts, 'Atoll.example', '*.preview.example']
  const good = ['localhost', 'LOCALHOST:9090', 'localhost.', '127.0.0.1:9090', '[::1]:9090', '3000-box.localhost:9090', 'atoll.example:443']
  for (const host of [...good, 'a.preview.example']) assert.equal(isAllowedHost(host, allowed), true, host)
  const bad = [undefined, '', 'evil.example', 'evil.example:9090', 'localhost.evil.example', '127.0.0.1.evil.example', 'preview.example']
  for (const host of [
    ...bad,
    '.localhost',
    'xlocalhost',
    'localhost:9090:1',
    'localhost/x',
    'user@localhost',
    '[::2]',
    '127.0.0.2',
    '*.localhost',
  ]) {
    assert.equal(isAllowedHost(host, allowed), false, host)
  }
})

test('an origin is allowed when it is the operator, or when CORS lets it in', () => {
  const rules = { hosts: loopbackHosts, cors: corsRule('https://app.example') }
  for (const origin of [undefined, 'http://localhost:9090', 'https://127.0.0.1', 'http://[::1]:9090', 'https://app.example']) {
    assert.equal(isAllowedOrigin(origin, rules), true, origin)
  }
  for (const origin of [
    'null',
    '',
    'http://3000-box.localhost:9090',
    'https://evil.example',
    'http://localhost.evil.example',
    'file://localhost',
    'http://localhost/x',
  ]) {
    assert.equal(isAllowedOrigin(origin, rules), false, origin)
  }
})
