// What is allowed works as if there were no gateway: every way in which programs use HTTP, and the programs themselves.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { answerOver, askHttp2, askOver, askProxy, count, echoSocket, http2Through, many, tlsThrough } from './egress/clients.ts'
import { inOwnNetwork } from './egress/own-network.ts'
import { EgressSubject, readAll } from './egress/subject.ts'

const mebibyte = 1024 * 1024
const everyMethod = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const
const hosts = ['93.184.216.34', '2606:2800:220:1::34']

let subject: EgressSubject
/** What the sandbox trusts to be looked into, and what the world's servers show. */
let ca: string
let world: string

const names = {
  '*.example.com': hosts,
  'six.example.com': ['2606:2800:220:1::66'],
  'alias.example.com': { alias: 'open.example.com' },
  'registry.npmjs.org': ['104.16.1.34'],
}
const rules = [
  { host: 'open.example.com' },
  { host: 'open.example.com:8080' },
  { host: 'open.example.com:8443' },
  { host: '*.wild.example.com' },
  { host: 'six.example.com' },
  { host: 'alias.example.com' },
  { host: 'api.example.com', methods: [...everyMethod] },
  { host: 'repo.example.com', path_prefix: '/repo.git' },
]

/** A request in TLS that is not looked into, and one that is. */
const inTunnel = async (path: string, more: object = {}) =>
  askOver(await tlsThrough(subject, 'open.example.com:443', { ca: world }), 'open.example.com', { path, ...more })
const lookedInto = async (path: string, more: object = {}) =>
  askOver(await tlsThrough(subject, 'api.example.com:443', { ca }), 'api.example.com', { path, ...more })
const plainly = (path: string, more: object = {}) => askProxy(subject, `http://open.example.com${path}`, more)

const ways = { plainly, 'in a tunnel': inTunnel, 'looked into': lookedInto }
const told = ({ body }: { body: Buffer }) => JSON.parse(String(body))

function everyWay(name: string, run: (ask: typeof plainly) => Promise<void>): void {
  for (const [way, ask] of Object.entries(ways)) test(`${name}, ${way}`, () => run(ask))
}

await inOwnNetwork(import.meta.filename, () => {
  before(async () => {
    subject = await EgressSubject.start('namespace', names)
    world = readFileSync(subject.world.settings['NODE_EXTRA_CA_CERTS'] ?? '', 'utf8')
    ca = (await subject.run('cat "$NODE_EXTRA_CA_CERTS"')).out
    await subject.allow({ mode: 'allowlist', rules, presets: ['npm'] })
  })

  after(async () => {
    await subject?.[Symbol.asyncDispose]()
  })

  everyWay('a request and its body arrive as they were sent', async (ask) => {
    const page = await ask('/a%2fb/../c?x=1&y=%20', { method: 'POST', headers: { 'X-Odd': 'Kept', te: 'trailers' }, body: 'hello' })
    assert.equal(page.status, 200)
    const { method, url, headers, body } = told(page)
    assert.deepEqual([method, url, headers['x-odd'], body.bytes], ['POST', '/a%2fb/../c?x=1&y=%20', 'Kept', 5])
    assert.equal(
      Object.keys(headers).some((name) => /forwarded|via|proxy/.test(name)),
      false,
    )
  })

  everyWay('a body of unknown length, of none, and a HEAD', async (ask) => {
    assert.equal(told(await ask('/', { method: 'PUT', body: many(3 * mebibyte) })).body.bytes, 3 * mebibyte)
    const empty = told(await ask('/', { method: 'POST', headers: { 'content-length': '0' } }))
    assert.deepEqual([empty.body.bytes, empty.headers['content-length']], [0, '0'])
    const head = await ask('/', { method: 'HEAD' })
    assert.deepEqual([head.status, head.headers['x-seen-by'], head.body.length], [200, 'world', 0])
    assert.equal((await ask('/empty')).status, 204)
  })

  everyWay('headers of an answer keep their order, spelling and number', async (ask) => {
    const { raw } = await ask('/cookies')
    assert.deepEqual(raw.slice(0, 6), ['Set-Cookie', 'a=1', 'X-Odd-Case', 'Kept', 'set-cookie', 'b=2'])
  })

  everyWay('what is packed stays packed, and trailers come at the end', async (ask) => {
    const page = await ask('/gzip')
    assert.deepEqual([page.headers['content-encoding'], String(gunzipSync(page.body))], ['gzip', 'packed'])
    const { body, trailers } = await ask('/trailers')
    assert.deepEqual([String(body), trailers['x-end']], ['body', 'reached'])
  })

  everyWay('events come when they are sent, with silence between them', async (ask) => {
    const { body, at } = await ask('/events?gap=400')
    assert.equal(String(body), 'data: 0\n\ndata: 1\n\ndata: 2\n\n')
    assert.equal(at.length, 3, 'one piece for each event')
  })

  everyWay('a body is sent when the server asks for it, and not when it refuses first', async (ask) => {
    const expecting = { method: 'POST', headers: { expect: '100-continue' } }
    assert.equal(JSON.parse(String((await ask('/continue', { ...expecting, body: 'asked for' })).body)).bytes, 9)
    const refused = await ask('/early', { ...expecting, body: 'never sent' })
    assert.deepEqual([refused.status, String(refused.body)], [413, 'too large'])
  })

  everyWay('an answer that is cut off looks cut off', async (ask) => {
    await assert.rejects(ask('/cut'), { code: 'ECONNRESET' })
  })

  test('one connection carries many requests, to a proxy and looked into', async () => {
    const open = await tlsThrough(subject, 'api.example.com:443', { ca })
    const text = (path: string, host: string, end: string) => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${end}\r\n`
    open.write(
      text('/one', 'api.example.com', '') +
        text('/two', 'api.example.com', '') +
        text('/three', 'api.example.com', 'Connection: close\r\n'),
    )
    assert.deepEqual((await readAll(open)).match(/"url":"[^"]+"/g), ['"url":"/one"', '"url":"/two"', '"url":"/three"'])
    const proxy = subject.open()
    const path = (name: string) => `http://open.example.com/${name}`
    proxy.write(text(path('one'), 'open.example.com', '') + text(path('two'), 'open.example.com', 'Connection: close\r\n'))
    assert.deepEqual((await readAll(proxy)).match(/"url":"[^"]+"/g), ['"url":"/one"', '"url":"/two"'])
  })

  test('other ports, names below a wildcard, other words for a name, and hosts with the newer addresses only', async () => {
    assert.equal((await askProxy(subject, 'http://open.example.com:8080/')).status, 200)
    for (const target of ['open.example.com:8443', 'a.b.wild.example.com:443', 'six.example.com:443', 'alias.example.com:443']) {
      const [host = '', port] = target.split(':')
      const secured = await tlsThrough(subject, target, { ca: world })
      assert.equal((await askOver(secured, port === '443' ? host : target, { path: '/' })).status, 200, target)
    }
  })

  test('TLS of 1.2, and protocols that the gateway does not know, in a tunnel', async () => {
    const old = await tlsThrough(subject, 'open.example.com:443', { ca: world, more: { maxVersion: 'TLSv1.2' } })
    assert.equal((await askOver(old, 'open.example.com', { path: '/' })).status, 200)
    const both = await tlsThrough(subject, 'open.example.com:443', { ca: world, protocols: ['spdy/9', 'h2', 'http/1.1'] })
    assert.equal(both.alpnProtocol, 'h2')
    both.destroy()
  })

  test('WebSockets: by proxy, in a tunnel with and without TLS, and looked into', async () => {
    const echoed = /^HTTP\/1\.1 101 [\s\S]*frames of any kind$/
    assert.match(await echoSocket(subject.open(), 'open.example.com', 'http://open.example.com/socket'), echoed)
    const plain = await subject.tunnel('open.example.com:80')
    assert.match(await echoSocket(plain.socket, 'open.example.com', '/socket'), echoed)
    const tunnel = await tlsThrough(subject, 'open.example.com:443', { ca: world })
    assert.match(await echoSocket(tunnel, 'open.example.com', '/socket'), echoed)
    const looked = await tlsThrough(subject, 'api.example.com:443', { ca })
    assert.match(await echoSocket(looked, 'api.example.com', '/socket'), echoed)
    const refused = await tlsThrough(subject, 'api.example.com:443', { ca })
    assert.match(await echoSocket(refused, 'api.example.com', '/refused'), /^HTTP\/1\.1 401 Unauthorized\r\n/)
  })

  for (const [way, host] of [
    ['in a tunnel', 'open.example.com'],
    ['looked into', 'api.example.com'],
  ] as const) {
    test(`HTTP/2 with many requests at once, bodies, events and trailers, ${way}`, async () => {
      const session = await http2Through(subject, host, way === 'looked into' ? ca : world)
      const ask = (path: string, body?: string) =>
        askHttp2(session, { ':path': path, ':method': body === undefined ? 'GET' : 'POST', 'x-odd': 'kept' }, body)
      const pages = await Promise.all(
        Array.from({ length: 60 }, (_, index) => ask(`/page/${index}`, index % 2 ? 'x'.repeat(index) : undefined)),
      )
      for (const [index, page] of pages.entries()) {
        const { url, httpVersion, headers, body } = told(page)
        assert.deepEqual([url, httpVersion, headers['x-odd'], body.bytes], [`/page/${index}`, '2.0', 'kept', index % 2 ? index : 0])
      }
      assert.equal(String((await ask('/events?gap=100')).body), 'data: 0\n\ndata: 1\n\ndata: 2\n\n')
      assert.equal((await ask('/trailers')).trailers['x-end'], 'reached')
      assert.equal((await ask('/empty')).status, 204)
      assert.equal((await ask('/early', 'x')).status, 413)
      session.close()
    })
  }

  test('a download of 1 GiB and an upload of 256 MiB arrive whole, in a tunnel and looked into', async () => {
    const tunnel = await tlsThrough(subject, 'open.example.com:443', { ca: world })
    const bytes = 1024 * mebibyte
    assert.equal((await count(await answerOver(tunnel, 'open.example.com', { path: `/bytes?count=${bytes}` }))).bytes, bytes)
    const looked = await tlsThrough(subject, 'api.example.com:443', { ca })
    const up = 256 * mebibyte
    const { body } = told(await askOver(looked, 'api.example.com', { method: 'PUT', path: '/', body: many(up) }))
    assert.deepEqual(body, await count(many(up)))
  })

  test('mode internet reaches names and public numbers, with and without TLS', async () => {
    const sandbox = await subject.newSandbox()
    await subject.allow({ mode: 'internet' }, sandbox)
    assert.equal((await askProxy(subject, 'http://anything.example.com:3000/', {}, sandbox)).status, 200)
    assert.equal((await askProxy(subject, 'http://8.8.4.4/', {}, sandbox)).status, 200)
    const secured = await tlsThrough(subject, 'any.example.com:8443', { ca: world }, sandbox)
    assert.equal((await askOver(secured, 'any.example.com:8443', { path: '/' })).status, 200)
    const byNumber = await subject.tunnel('[2606:4700::1111]:80', sandbox)
    assert.equal((await askOver(byNumber.socket, '[2606:4700::1111]', { path: '/' })).status, 200)
  })

  test('curl, python and node in the sandbox find the way and trust it', async () => {
    const ask = [
      'curl -sSf https://api.example.com/curl',
      'curl -sSf --http1.1 https://api.example.com/curl',
      'curl -sSfL "http://open.example.com/redirect?to=https://api.example.com/there"',
      `python3 -c "import urllib.request as u; print(u.urlopen('https://api.example.com/python').read().decode())"`,
      `/opt/atoll/node -e "fetch('https://api.example.com/node').then((r) => r.text()).then(console.log)"`,
      `/opt/atoll/node -e "fetch('http://open.example.com/node').then((r) => r.text()).then(console.log)"`,
      `/opt/atoll/node -e "require('https').get('https://api.example.com/node', (r) => r.pipe(process.stdout))"`,
    ]
    for (const command of ask) {
      const { code, out, err } = await subject.run(command)
      assert.equal(code, 0, `${command}\n${err}`)
      assert.equal(JSON.parse(out).method, 'GET', command)
    }
  })
})
