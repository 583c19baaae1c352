// Secrets that the operator puts into requests on their way out: there, nowhere else, and never in the sandbox.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { askHttp2, askOver, askProxy, http2Through, type Page, tlsThrough } from './egress/clients.ts'
import { inOwnNetwork } from './egress/own-network.ts'
import { gitToken } from './egress/packages.ts'
import { EgressSubject } from './egress/subject.ts'

const value = 'Bearer canary-of-the-binding-4711'
const bindings = [
  { host: 'api.example.com', methods: ['GET', 'POST'], path_prefix: '/v1', header: 'Authorization', value },
  { host: 'private.example.com', header: 'authorization', value: `Basic ${Buffer.from(`x:${gitToken}`).toString('base64')}` },
  { host: 'every.example.com', header: 'authorization', value },
]

let subject: EgressSubject
let ca: string
let world: string

const set = (body: object, key?: string, sandbox = subject.sandbox) =>
  subject.operator.call('PUT', `/api/sandboxes/${sandbox}/egress/bindings`, { body, ...(key !== undefined && { key }) })
const headersIn = ({ body }: Pick<Page, 'body'>): Record<string, string> => JSON.parse(String(body)).headers
const ask = async (target: string, headers: Record<string, string> = {}, method = 'GET') =>
  askOver(await tlsThrough(subject, 'api.example.com:443', { ca }), 'api.example.com', { path: target, headers, method })

await inOwnNetwork(import.meta.filename, () => {
  before(async () => {
    subject = await EgressSubject.start('namespace', { '*.example.com': ['140.82.112.3'] })
    ca = (await subject.run('cat "$NODE_EXTRA_CA_CERTS"')).out
    world = readFileSync(subject.world.settings['NODE_EXTRA_CA_CERTS'] ?? '', 'utf8')
    await subject.allow({ mode: 'internet' })
  })

  after(async () => {
    await subject?.[Symbol.asyncDispose]()
  })

  test('a tunnel that was open before goes on by the new bindings, which are shown without their secrets', async () => {
    const tunnel = await tlsThrough(subject, 'api.example.com:443', { ca: world })
    const ended = once(tunnel.resume(), 'end')
    const { status, body, text } = await set({ bindings })
    assert.equal(status, 200, text)
    await ended
    assert.deepEqual(body.bindings[0], { host: 'api.example.com', methods: ['GET', 'POST'], path_prefix: '/v1', header: 'authorization' })
    const shown = await subject.operator.call('GET', `/api/sandboxes/${subject.sandbox}/egress/bindings`)
    assert.deepEqual(shown.body, body)
  })

  test('a secret goes into what it is for, in both versions of HTTP, in the place of what the sandbox sent', async () => {
    for (const own of [{}, { authorization: 'Bearer of-the-sandbox' }]) {
      assert.equal(headersIn(await ask('/v1/things?x=1', own))['authorization'], value)
    }
    const session = await http2Through(subject, 'api.example.com', ca)
    assert.equal(headersIn(await askHttp2(session, { ':path': '/v1', authorization: 'x' }))['authorization'], value)
    assert.equal(headersIn(await askHttp2(session, { ':path': '/v2' }))['authorization'], undefined)
    session.destroy()
  })

  test('it goes into nothing else: other paths, ways to write them, methods, hosts, and what is not in TLS', async () => {
    for (const target of ['/', '/v2', '/v10', '/v1/../v2', '/v1/%2e%2e/v2', '/v1//x', '/x?/v1']) {
      assert.equal(headersIn(await ask(target))['authorization'], undefined, target)
    }
    assert.equal(headersIn(await ask('/v1', {}, 'DELETE'))['authorization'], undefined)
    assert.equal(headersIn(await askProxy(subject, 'http://api.example.com/v1'))['authorization'], undefined)
    const plain = await subject.tunnel('api.example.com:80')
    assert.equal(headersIn(await askOver(plain.socket, 'api.example.com', { path: '/v1' }))['authorization'], undefined)
    const other = await tlsThrough(subject, 'other.example.com:443', { ca: world })
    assert.equal(headersIn(await askOver(other, 'other.example.com', { path: '/v1' }))['authorization'], undefined)
    for (const [method, isMeant] of [
      ['PUT', true],
      ['TRACE', false],
    ] as const) {
      const tunnel = await tlsThrough(subject, 'every.example.com:443', { ca })
      const sent = headersIn(await askOver(tunnel, 'every.example.com', { path: '/any', method }))
      assert.equal(sent['authorization'] !== undefined, isMeant, method)
    }
  })

  test('git works with a private repository without any credential in the sandbox', async () => {
    const { code, err } = await subject.run(
      'rm -rf /tmp/p && GIT_TERMINAL_PROMPT=0 git clone --quiet https://private.example.com/repo.git /tmp/p',
    )
    assert.equal(code, 0, err)
  })

  test('it is in no file, log, event or answer of the operator, and in no process of the sandbox', async () => {
    const folder = path.join(subject.operator.folder, 'state')
    const files = readdirSync(folder).filter((name) => /^atoll\.db|^keys|log/.test(name))
    const texts = files.map((name) => readFileSync(path.join(folder, name), 'latin1'))
    texts.push(readFileSync(path.join(subject.operator.folder, 'operator.log'), 'latin1'))
    texts.push((await subject.operator.call('GET', `/api/sandboxes/${subject.sandbox}/events?limit=1000`)).text)
    texts.push((await subject.run('env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null')).out)
    assert.ok(texts.some((text) => text.includes('egress.bindings_changed')))
    for (const text of texts) assert.ok(!text.includes('canary-of-the-binding') && !text.includes(gitToken))
  })

  test('bindings hold after a restart and a rotation of the sealing key, and only their owner sets them', async () => {
    const rotated = await subject.operator.call('POST', '/api/sealing-key/rotate', { body: {} })
    assert.equal(rotated.body.unreadable, 0, rotated.text)
    for (const action of ['stop', 'resume'])
      await subject.operator.call('POST', `/api/sandboxes/${subject.sandbox}/${action}`, { body: {} })
    assert.equal(headersIn(await ask('/v1'))['authorization'], value)
    const stranger = await subject.operator.newKey('stan')
    assert.equal((await set({ bindings: [] }, stranger)).status, 404)
    const bad = [
      ...[
        { header: 'Host' },
        { header: 'content-length' },
        { header: 'proxy-authorization' },
        { header: 'a b' },
        { value: 'a\r\nb: c' },
        { value: '' },
      ],
      ...[{ host: '*' }, { host: '10.0.0.1' }, { path_prefix: '/../' }, { more: 1 }],
    ]
    for (const change of bad) {
      const { status, body } = await set({ bindings: [{ ...bindings[0], ...change }] })
      assert.deepEqual([status, body.code], [400, 'request.invalid'], JSON.stringify(change))
    }
    assert.equal((await set({ bindings: [] })).status, 200)
    const open = await tlsThrough(subject, 'api.example.com:443', { ca: world })
    assert.equal(headersIn(await askOver(open, 'api.example.com', { path: '/v1' }))['authorization'], undefined)
  })
})
