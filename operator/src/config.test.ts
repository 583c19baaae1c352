import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { configurationTable, readConfig, unknownNames } from './config.ts'

test('without any setting there are sane ones', () => {
  const config = readConfig({})
  assert.equal(config.port, 9090)
  assert.equal(config.host, '127.0.0.1')
  assert.equal(config.maxCount, 100)
  assert.equal(config.runtime, undefined)
})

test('names of the reference operator are understood, and an empty value is none', () => {
  const config = readConfig({ OPERATOR_API_PORT: '9100', SANDBOX_RUNTIME_BACKEND: 'Container', SANDBOX_CPU_BUDGET: '4', ATOLL_PORT: ' ' })
  assert.equal(config.port, 9100)
  assert.equal(config.runtime, 'docker')
  assert.equal(config.cpuBudget, 4)
})

test('every wrong setting is named', () => {
  assert.throws(() => readConfig({ ATOLL_PORT: '99999', SIDECAR_PULL_IMAGE: 'maybe' }), {
    code: 'config.invalid',
    message: /ATOLL_PORT or OPERATOR_API_PORT: .*; SIDECAR_PULL_IMAGE: must be true or false/,
  })
  assert.throws(() => readConfig({ SANDBOX_RUNTIME_BACKEND: 'lxc' }), { code: 'config.invalid' })
})

test('a name of ours that no setting has is reported', () => {
  assert.deepEqual(unknownNames({ ATOLL_PROT: '1', SANDBOX_MAX_COUNT: '1', ATOLL_URL: 'x', PATH: 'x' }), ['ATOLL_PROT'])
})

test('the page on configuration is printed from the settings', () => {
  const page = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8')
  assert.ok(page.includes(configurationTable()), 'run npm run docs:print')
})
