import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { clientAddressReader, type Incoming, secureReader } from './client-address.ts'

const from = (remoteAddress: string | undefined, forwarded?: string): Incoming => ({
  socket: { remoteAddress },
  headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded },
})

test('nobody is believed without being named, not even neighbours on a private network', () => {
  const read = clientAddressReader([])
  for (const peer of ['127.0.0.1', '10.0.0.7', '192.168.1.1', '203.0.113.9']) {
    assert.equal(read(from(peer, '198.51.100.1')), peer)
  }
  assert.equal(read(from('::1', '198.51.100.1')), '0:0:0:0::/64')
})

test('behind named proxies the client is the first hop from the right that nobody vouches for', () => {
  const read = clientAddressReader(['10.0.0.0/8', '192.0.2.7', 'fd00::/8'])
  const cases: [string, string | undefined, string][] = [
    ['10.1.2.3', undefined, '10.1.2.3'],
    ['10.1.2.3', '198.51.100.1', '198.51.100.1'],
    ['10.1.2.3', '1.1.1.1, 198.51.100.1', '198.51.100.1'],
    ['10.1.2.3', '1.1.1.1, 198.51.100.1, 192.0.2.7,10.9.9.9', '198.51.100.1'],
    ['10.1.2.3', '10.4.4.4, 10.5.5.5', '10.4.4.4'],
    ['192.0.2.8', '198.51.100.1', '192.0.2.8'],
    ['fd00::1', '2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['::ffff:10.1.2.3', '198.51.100.1', '198.51.100.1'],
  ]
  for (const [peer, forwarded, expected] of cases) assert.equal(read(from(peer, forwarded)), expected, `${peer} for ${forwarded}`)
})

test('a hop is read with port, brackets, quotes or zone, and what is no address ends the walk', () => {
  const read = clientAddressReader(['127.0.0.1'])
  const cases: [string, string][] = [
    ['198.51.100.1:4711', '198.51.100.1'],
    ['[2001:db8::1]:443', '2001:db8:0:0::/64'],
    ['"[2001:db8::1]"', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['unknown', '127.0.0.1'],
    ['198.51.100.1, _hidden', '127.0.0.1'],
    ['198.51.100.1, 999.1.1.1', '127.0.0.1'],
    ['', '127.0.0.1'],
    [',,,', '127.0.0.1'],
  ]
  for (const [forwarded, expected] of cases) assert.equal(read(from('127.0.0.1', forwarded)), expected, forwarded)
})

test('IPv6 addresses count by their /64 network, and IPv4 inside IPv6 as IPv4', () => {
  const read = clientAddressReader([])
  const cases: [string, string][] = [
    ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0003::', '2001:db8:1:3::/64'],
    ['::', '0:0:0:0::/64'],
    ['::ffff:203.0.113.9', '203.0.113.9'],
    ['::ffff:cb00:7109', '203.0.113.9'],
    ['64:ff9b::203.0.113.9', '64:ff9b:0:0::/64'],
  ]
  for (const [peer, expected] of cases) assert.equal(read(from(peer)), expected)
})

test('only named proxies say that a connection is encrypted, the nearest last', () => {
  const isSecure = secureReader(['10.0.0.0/8'])
  const from = (remoteAddress: string | undefined, proto: string): Incoming => ({
    socket: { remoteAddress },
    headers: { 'x-forwarded-proto': proto },
  })
  assert.equal(isSecure(from('10.1.2.3', 'https')), true)
  assert.equal(isSecure(from('::ffff:10.1.2.3', 'http, HTTPS')), true)
  assert.equal(isSecure(from('10.1.2.3', 'https, http')), false)
  assert.equal(isSecure(from('127.0.0.1', 'https')), false)
  assert.equal(isSecure(from(undefined, 'https')), false)
  assert.equal(secureReader([])(from('10.1.2.3', 'https')), false)
})

test('a connection without an address has a bucket of its own', () => {
  const read = clientAddressReader([])
  const [one, other] = [from(undefined), from(undefined, '198.51.100.1')]
  assert.equal(read(one), read(one))
  assert.notEqual(read(one), read(other))
})

test('a proxy list with a mistake is refused', () => {
  for (const entry of ['localhost', '10.0.0.0/33', '10.0.0.0/8/8', '10.0.0.0/', '::1/129', '10.0.0.0/-1', '10.0.0/8']) {
    assert.throws(() => clientAddressReader([entry]), { code: 'config.invalid' }, entry)
  }
})

test('requests of a real server are told apart by their connection', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'atoll-address-'))
  const read = clientAddressReader(['127.0.0.1'])
  const server = http.createServer((request, response) => response.end(read(request)))
  const ask = async (options: http.RequestOptions): Promise<string> => {
    const [response]: http.IncomingMessage[] = await once(http.get({ ...options, agent: false }), 'response')
    return Buffer.concat((await response?.toArray()) ?? []).toString()
  }
  try {
    const socketPath = path.join(folder, 'socket')
    await once(server.listen(socketPath), 'listening')
    assert.notEqual(await ask({ socketPath }), await ask({ socketPath }))
    server.close()
    await once(server, 'close')
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const address = server.address()
    assert.ok(address && typeof address === 'object')
    const headers = { 'x-forwarded-for': ['1.1.1.1', '198.51.100.1'] }
    assert.equal(await ask({ host: '127.0.0.1', port: address.port, headers }), '198.51.100.1')
  } finally {
    server.close()
    await rm(folder, { recursive: true, force: true })
  }
})
