import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EgressPolicy, type EgressPolicyInput, egressPresets } from '@atoll/protocol'
import { effectiveRules, type HeldPolicy, hasOneReading, verdictOn, verdictOnRequest } from './policy.ts'

const policy = (input: EgressPolicyInput): HeldPolicy => ({ ...EgressPolicy.parse(input), bindings: [] })
const tls = (host: string, port = 443) => ({ host, port, isTls: true })
const plain = (host: string, port = 80) => ({ host, port, isTls: false })

test('mode none lets nothing through, whatever the rules say', () => {
  const nothing = policy({ mode: 'none', rules: [{ host: 'example.com' }], presets: ['npm'] })
  for (const one of [tls('example.com'), plain('example.com'), tls('registry.npmjs.org')]) {
    assert.deepEqual(verdictOn(nothing, one), { kind: 'denied', denial: 'no_rule', allow: { host: one.host } })
  }
})

test('mode internet lets every host through, but not to the ports of services that are not HTTP', () => {
  const all = policy({ mode: 'internet' })
  for (const one of [tls('example.com'), plain('example.com'), tls('example.com', 8443), tls('1.1.1.1'), plain('example.com', 3000)]) {
    assert.equal(verdictOn(all, one).kind, 'passed')
  }
  for (const port of [22, 23, 25, 110, 465, 587, 993]) {
    assert.deepEqual(verdictOn(all, tls('example.com', port)), { kind: 'denied', denial: 'port', allow: undefined })
  }
})

test('a rule means a name alone, a wildcard the names below it, and a port only itself', () => {
  const list = policy({ mode: 'allowlist', rules: [{ host: 'example.com' }, { host: '*.Example.org' }, { host: 'api.test.dev:8443' }] })
  const passed = [tls('example.com'), plain('example.com'), tls('a.example.org'), tls('a.b.example.org'), tls('api.test.dev', 8443)]
  for (const one of [...passed, plain('api.test.dev', 8443)]) assert.equal(verdictOn(list, one).kind, 'passed', JSON.stringify(one))
  const refused = [
    ...[tls('a.example.com'), tls('example.org'), tls('xexample.org'), tls('example.com.evil.net'), tls('evilexample.com')],
    ...[tls('api.test.dev'), tls('example.com', 80), tls('example.com', 8443), plain('example.com', 443), tls('93.184.216.34')],
  ]
  for (const one of refused) assert.equal(verdictOn(list, one).kind, 'denied', JSON.stringify(one))
  assert.deepEqual(verdictOn(list, tls('example.com', 8443)), { kind: 'denied', denial: 'no_rule', allow: { host: 'example.com:8443' } })
})

test('rules with methods and paths are for requests, unless another rule lets all of the host through', () => {
  const rules = [
    { host: 'api.example.com', methods: ['GET' as const], path_prefix: '/repo' },
    { host: 'api.example.com', methods: ['POST' as const] },
  ]
  const list = policy({ mode: 'allowlist', rules })
  const verdict = (method: string, path: string) => verdictOnRequest(list, { ...tls('api.example.com'), method, path })
  assert.equal(verdictOn(list, tls('api.example.com')).kind, 'looked_into')
  for (const path of ['/repo', '/repo/', '/repo/a?b=/../c', '/repo?x', '/repo/%41']) assert.equal(verdict('GET', path).kind, 'passed', path)
  assert.deepEqual(verdict('GET', '/repository'), {
    kind: 'denied',
    denial: 'no_rule',
    allow: { host: 'api.example.com', methods: ['GET'], path_prefix: '/repository' },
  })
  for (const path of ['/repo/../admin', '/repo/%2e%2e/admin', '/repo//x', '/repo/..;/admin']) {
    assert.deepEqual(verdict('GET', path), { kind: 'denied', denial: 'path', allow: undefined }, path)
  }
  assert.equal(verdict('POST', '/anything/../at%2fall').kind, 'passed', 'no rule goes by this path')
  assert.equal(verdict('DELETE', '/repo').kind, 'denied')
  const bare = policy({ mode: 'allowlist', rules: [...rules, { host: '*.example.com' }] })
  assert.equal(verdictOn(bare, tls('api.example.com')).kind, 'passed')
})

test('a path that servers read in several ways has not one reading', () => {
  for (const path of ['/', '/a', '/a/b.c', '/@scope/name', '/a%20b', '/a/...', '/a?x=../..//;', '/a.', '/.git/config']) {
    assert.equal(hasOneReading(path), true, path)
  }
  const refused = [
    ...['', 'a', '*', '/..', '/.', '/a/..', '/a/./b', '/a/../b', '//a', '/a//b', '/a\\b', '/a;x', '/a/..;/b', '/a#b', '/a b', '/ä', '/a\0'],
    ...['/a/%2e%2e/b', '/a/%2E./b', '/a%2fb', '/a%5Cb', '/a%00', '/a%0d%0a', '/a%252e', '/a%3bb', '/a%', '/a%2', '/a%zz', '/a%u002e'],
  ]
  for (const path of refused) assert.equal(hasOneReading(path), false, path)
})

test('every preset has rules, which are shown with its name', () => {
  for (const preset of egressPresets) {
    const rules = effectiveRules(policy({ mode: 'allowlist', presets: [preset] }))
    assert.ok(rules.length > 0)
    for (const rule of rules) {
      assert.equal(rule.preset, preset)
      assert.deepEqual(policy({ mode: 'allowlist', rules: [{ host: rule.host }] }).rules, [{ host: rule.host }])
    }
  }
})

test('what is no host, method or path of a rule is refused', () => {
  const hosts = [
    ...['', '*', '*.com', 'com', 'localhost', '1.2.3.4', '[::1]', 'https://example.com', 'example.com/', 'example.com.', 'a.*.example.com'],
    ...[
      '*example.com',
      'exam ple.com',
      'bücher.example',
      'example.com:0',
      'example.com:65536',
      'example.com:',
      'user@example.com',
      '*.*.com',
    ],
  ]
  for (const host of hosts) assert.equal(EgressPolicy.safeParse({ mode: 'allowlist', rules: [{ host }] }).success, false, host)
  for (const path of ['', 'a', '/a/../b', '/a//b', '/a;b', '/a%2e', '/a?b', '/a\\b', '/ä']) {
    assert.equal(EgressPolicy.safeParse({ mode: 'allowlist', rules: [{ host: 'example.com', path_prefix: path }] }).success, false, path)
  }
  for (const bad of [
    { mode: 'all' },
    { mode: 'none', rules: [{ host: 'example.com', methods: [] }] },
    { mode: 'none', presets: ['x'] },
    {},
  ]) {
    assert.equal(EgressPolicy.safeParse(bad).success, false, JSON.stringify(bad))
  }
})
