import assert from 'node:assert/strict'
import { test } from 'node:test'
import { proxyAddress } from './proxy-address.ts'

const at = (url: string, host = 'localhost:9090') => proxyAddress(url, host, 'localhost')

test('a port is reached by path, with what follows it left as it is', () => {
  assert.deepEqual(at('/api/sandboxes/s-1/port/3000/a%2Fb?x=1&y'), {
    sandboxId: 's-1',
    port: 3000,
    target: '/a%2Fb?x=1&y',
    via: 'path',
    base: '/api/sandboxes/s-1/port/3000/',
  })
  assert.equal(at('/api/sandboxes/s-1/port/3000')?.target, '/')
  assert.equal(at('/api/sandboxes/s-1/port/3000?a=1')?.target, '/?a=1')
  assert.equal(at('/api/sandbox/port/80/')?.sandboxId, undefined)
})

test('a port is reached by host name on the preview domain', () => {
  const address = at('/@vite/client', '5173--sandbox-12ab.localhost:9090')
  assert.deepEqual(address, { sandboxId: 'sandbox-12ab', port: 5173, target: '/@vite/client', via: 'host', base: '/' })
  assert.equal(at('/health', 'localhost:9090'), undefined)
  assert.equal(at('/health', 'evil-5173--s.notlocalhost'), undefined)
})

test('a port has one spelling', () => {
  for (const port of ['0', '02280', '+2280', '-1', '65536', '99999', '1e3', '22 ', '%32%32', '', 'x', '３０００']) {
    assert.throws(() => at(`/api/sandboxes/s/port/${port}/`), { code: 'port.invalid', status: 400 }, port)
  }
})

test('a path that a program could take for another host is refused', () => {
  assert.throws(() => at('/api/sandboxes/s/port/80//evil.example/'), { code: 'port.bad_path' })
  assert.throws(() => at('/api/sandboxes/s/port/80/a%00b'), { code: 'port.bad_path' })
})

test('other paths are not for a port', () => {
  assert.equal(at('/api/sandboxes/s/ports'), undefined)
  assert.equal(at('/api/sandboxes/s/files/port/80'), undefined)
})
