import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { test } from 'node:test'
import tls from 'node:tls'
import { authorityCertificate, newKeys, serverCertificate } from './certificates.ts'

const day = 86_400_000
const validity = { notBefore: new Date(Date.now() - day), notAfter: new Date(Date.now() + 30 * day) }

test('a server with a certificate of the authority is believed by who trusts the authority, under its name only', async () => {
  const authority = { name: 'Atoll sandbox test', ...newKeys() }
  const ca = authorityCertificate(authority, validity)
  const keys = newKeys()
  const cert = serverCertificate('api.example.com', keys.publicKey, authority, validity)
  const server = tls.createServer({ cert, key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }) }, (socket) => socket.end('hello'))
  server.on('tlsClientError', () => undefined).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  const connect = (servername: string, trusted?: string) =>
    tls.connect({ port, host: '127.0.0.1', servername, ...(trusted && { ca: trusted }) })
  const good = connect('api.example.com', ca)
  await once(good, 'secureConnect')
  assert.equal(good.authorized, true)
  good.destroy()
  const [other] = await once(connect('other.example.com', ca), 'error')
  assert.equal(other.code, 'ERR_TLS_CERT_ALTNAME_INVALID')
  const [stranger] = await once(connect('api.example.com'), 'error')
  assert.match(stranger.code, /UNABLE_TO_VERIFY|SELF_SIGNED/)
  server.close()
})

test('a long name and a year after 2049 are written as they must be', () => {
  const authority = { name: 'Atoll sandbox test', ...newKeys() }
  const long = `${'a'.repeat(60)}.${'b'.repeat(60)}.example.com`
  const late = { notBefore: validity.notBefore, notAfter: new Date('2055-01-01T00:00:00Z') }
  const ca = authorityCertificate(authority, late)
  const leaf = serverCertificate(long, newKeys().publicKey, authority, late)
  const read = new X509Certificate(leaf)
  assert.equal(read.checkHost(long), long)
  assert.equal(read.checkIssued(new X509Certificate(ca)), true)
  assert.equal(new X509Certificate(ca).ca, true)
  assert.equal(read.ca, false)
  assert.match(read.validTo, /2055/)
})
