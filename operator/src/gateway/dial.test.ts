import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { after, before, test } from 'node:test'
import { createDialer, trustedUpstreams } from './dial.ts'
import { type Answer, type DnsServer, startDnsServer } from './testing/dns-server.ts'

const names: Record<string, Answer> = {
  'private.example.com': ['10.0.0.1'],
  'mixed.example.com': ['93.184.216.34', '169.254.169.254'],
  'six.example.com': ['93.184.216.34', '::ffff:127.0.0.1'],
  'alias.example.com': { alias: 'hop.example.com' },
  'hop.example.com': { alias: 'private.example.com' },
  'empty.example.com': [],
  'models.example.com': ['127.0.0.1'],
}
let dns: DnsServer
let server: net.Server
let port: number

before(async () => {
  dns = await startDnsServer((name) => names[name])
  server = net.createServer((socket) => socket.on('error', () => socket.destroy()).end('hello'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  port = typeof address === 'object' && address ? address.port : 0
})

after(() => {
  dns.close()
  server.close()
})

const codeOf = (host: string, dialled = 443) =>
  createDialer({ nameServers: [dns.address], trusted: [] })
    .dial({ host, port: dialled })
    .then(
      () => 'connected',
      (error: { code?: string }) => error.code,
    )

test('one address that is not public makes the whole answer one', async () => {
  for (const host of ['private.example.com', 'mixed.example.com', 'six.example.com', 'alias.example.com', 'models.example.com']) {
    assert.equal(await codeOf(host), 'upstream.not_public', host)
  }
})

test('numbers and names of this machine are not asked for', async () => {
  const before = dns.asked.length
  for (const host of ['127.0.0.1', '::1', '2130706433', '0x7f.1', 'localhost', 'metadata.google.internal', '169.254.169.254', 'router']) {
    assert.equal(await codeOf(host, port), 'upstream.not_public', host)
  }
  assert.equal(dns.asked.length, before)
})

test('a name without addresses, and one that is not there, are told from one that may not be dialled', async () => {
  assert.equal(await codeOf('empty.example.com'), 'upstream.unresolved')
  assert.equal(await codeOf('nothing.example.com'), 'upstream.unresolved')
})

test('what the operator trusts is dialled at its own port only, by name and by number', async () => {
  const dialer = createDialer({
    nameServers: [dns.address],
    trusted: trustedUpstreams([`http://models.example.com:${port}`, `127.0.0.1:${port}`]),
  })
  for (const host of ['models.example.com', '127.0.0.1']) {
    const socket = await dialer.dial({ host, port })
    assert.equal(String(await once(socket, 'data')), 'hello')
    socket.destroy()
    await assert.rejects(dialer.dial({ host, port: port + 1 }), { code: 'upstream.not_public' })
  }
})

test('a name is asked for once for each dial, so that it cannot be another one when it is used', async () => {
  dns.asked.length = 0
  const dialer = createDialer({ nameServers: [dns.address], trusted: trustedUpstreams([`models.example.com:${port}`]) })
  const socket = await dialer.dial({ host: 'models.example.com', port })
  socket.destroy()
  assert.deepEqual(dns.asked, ['models.example.com', 'models.example.com'])
})

test('a port where nobody listens, and a caller who leaves, are said as such', async () => {
  const closed = net.createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const address = closed.address()
  const free = typeof address === 'object' && address ? address.port : 0
  closed.close()
  const dialer = createDialer({ nameServers: [], trusted: [{ host: '127.0.0.1', port: free }] })
  await assert.rejects(dialer.dial({ host: '127.0.0.1', port: free }), { code: 'upstream.unreachable' })
  const reason = new Error('left')
  await assert.rejects(dialer.dial({ host: '127.0.0.1', port: free }, AbortSignal.abort(reason)), (error) => error === reason)
})

test('a list of trusted upstreams has hosts with ports or origins, and nothing else', () => {
  assert.deepEqual(trustedUpstreams(['models.lan:11434', 'https://models.lan', 'http://[fd00::1]:80/']), [
    { host: 'models.lan', port: 11_434 },
    { host: 'models.lan', port: 443 },
    { host: 'fd00::1', port: 80 },
  ])
  for (const text of ['models.lan', 'ftp://models.lan', 'http://a@models.lan', 'http://models.lan/v1', '*:80', '10.0.0.0/8']) {
    assert.throws(() => trustedUpstreams([text]), { code: 'config.invalid' }, text)
  }
})
