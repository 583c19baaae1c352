// A policy that changes, a sandbox that ends, and senders who mean harm: what is under way is cut, and others go on.
import assert from 'node:assert/strict'
import { type EventEmitter, once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { after, before, test } from 'node:test'
import type { EgressPolicyInput } from '@atoll/protocol'
import { answerOver, askHttp2, askProxy, http2Through, tlsThrough } from './egress/clients.ts'
import { inOwnNetwork } from './egress/own-network.ts'
import { EgressSubject, readAll } from './egress/subject.ts'

let subject: EgressSubject
let world: string

const wide: EgressPolicyInput = {
  mode: 'allowlist',
  rules: [{ host: 'open.example.com' }, { host: 'other.example.com' }, { host: 'api.example.com', methods: ['GET', 'POST'] }],
}
const narrow: EgressPolicyInput = {
  mode: 'allowlist',
  rules: [{ host: 'other.example.com' }, { host: 'api.example.com', methods: ['POST'] }],
}

const caOf = async (sandbox: string): Promise<string> => (await subject.run('cat "$NODE_EXTRA_CA_CERTS"', sandbox)).out

/** Resolves with whether a connection ended within a second of when it is asked. */
function watch(connection: EventEmitter): () => Promise<boolean> {
  const ended = new Promise<boolean>((resolve) => {
    for (const event of ['end', 'close', 'error']) connection.once(event, () => resolve(true))
  })
  return () => Promise.race([ended, new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 1000))])
}

/** Opens so many connections that say nothing. */
async function openMany(count: number, sandbox: string): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => subject.open(sandbox))
  const settled = (socket: Socket): Promise<void> =>
    new Promise((resolve) => {
      socket.once('connect', resolve).once('close', () => resolve())
    })
  await Promise.all(sockets.map(settled))
  return sockets
}

/** Ten thousand connections, of which the last thousand stay open; meanwhile another sandbox is served. */
async function flood(bad: string, good: string): Promise<Socket[]> {
  const held: Socket[] = []
  for (let round = 0; round < 50; round++) {
    const many = await openMany(200, bad)
    if (round >= 45) held.push(...many)
    else for (const socket of many) socket.destroy()
    if (round % 10 === 9) assert.equal((await askProxy(subject, 'http://open.example.com/', {}, good)).status, 200)
  }
  return held
}

await inOwnNetwork(import.meta.filename, () => {
  before(async () => {
    subject = await EgressSubject.start('namespace', {
      '*.example.com': ['93.184.216.34'],
      'nowhere.test.net': [],
      'silent.test.net': { silent: true },
    })
    world = readFileSync(subject.world.settings['NODE_EXTRA_CA_CERTS'] ?? '', 'utf8')
  })

  after(async () => {
    await subject?.[Symbol.asyncDispose]()
  })

  test('a change of the policy cuts at once what it does not allow, tells the owner, and leaves the rest', async () => {
    const sandbox = await subject.newSandbox()
    await subject.allow(wide, sandbox)
    const ca = await caOf(sandbox)
    const tunnel = await tlsThrough(subject, 'open.example.com:443', { ca: world }, sandbox)
    await answerOver(tunnel, 'open.example.com', { path: '/hold' })
    const kept = await tlsThrough(subject, 'other.example.com:443', { ca: world }, sandbox)
    const opening = await subject.tunnel('open.example.com:443', sandbox)
    const plain = subject.open(sandbox)
    await answerOver(plain, 'open.example.com', { path: 'http://open.example.com/hold' })
    const looked = await tlsThrough(subject, 'api.example.com:443', { ca }, sandbox)
    await answerOver(looked, 'api.example.com', { path: '/hold' })
    const session = await http2Through(subject, 'api.example.com', ca, sandbox)
    const stream = session.request({ ':path': '/hold' })
    stream.on('error', () => undefined)
    await once(stream, 'response')
    const cursor = await subject.cursor(sandbox)
    const cut = { tunnel, opening: opening.socket, plain, looked, stream }
    const watched = Object.entries(cut).map(([name, one]) => [name, watch(one.resume())] as const)
    await subject.allow(narrow, sandbox)
    for (const [name, ended] of watched) assert.equal(await ended(), true, name)
    assert.equal(
      (await askHttp2(session, { ':path': '/more', ':method': 'POST' }, 'x')).status,
      200,
      'another request of the same connection',
    )
    assert.equal((await askHttp2(session, { ':path': '/more' })).status, 403)
    kept.write('GET / HTTP/1.1\r\nHost: other.example.com\r\nConnection: close\r\n\r\n')
    assert.match(await readAll(kept), /^HTTP\/1\.1 200/)
    const told = (await subject.denials(cursor, sandbox)).filter(({ reason }) => reason === 'policy_changed')
    assert.deepEqual(
      new Set(told.map(({ host, path = '' }) => host + path)),
      new Set(['open.example.com', 'open.example.com/hold', 'api.example.com/hold']),
    )
    session.destroy()
  })

  test('a tunnel that would be looked into after a change does not go on without', async () => {
    const sandbox = await subject.newSandbox()
    await subject.allow(wide, sandbox)
    const tunnel = await tlsThrough(subject, 'open.example.com:443', { ca: world }, sandbox)
    const stricter: EgressPolicyInput = { mode: 'allowlist', rules: [{ host: 'open.example.com', methods: ['GET'] }] }
    const ended = watch(tunnel.resume())
    await subject.allow(stricter, sandbox)
    assert.equal(await ended(), true)
  })

  test('what goes on ends with the sandbox, and after a resume the same authority is trusted', async () => {
    const sandbox = await subject.newSandbox()
    await subject.allow(wide, sandbox)
    const ca = await caOf(sandbox)
    const tunnel = await tlsThrough(subject, 'open.example.com:443', { ca: world }, sandbox)
    const ended = watch(tunnel.resume())
    await subject.operator.call('POST', `/api/sandboxes/${sandbox}/stop`, { body: {} })
    assert.equal(await ended(), true)
    await subject.operator.call('POST', `/api/sandboxes/${sandbox}/resume`, { body: {} })
    assert.equal(await caOf(sandbox), ca)
    const looked = await tlsThrough(subject, 'api.example.com:443', { ca }, sandbox)
    looked.destroy()
  })

  test('two sandboxes trust two authorities', async () => {
    const [one, other] = [await subject.newSandbox(), await subject.newSandbox()]
    await Promise.all([subject.allow(wide, one), subject.allow(wide, other)])
    await assert.rejects(tlsThrough(subject, 'api.example.com:443', { ca: await caOf(other) }, one), /certificate/)
  })

  test('a loop of denials does not fill the store, and says how many there were', async () => {
    const sandbox = await subject.newSandbox()
    const ask = (host: string) => askProxy(subject, `http://${host}/`, {}, sandbox)
    for (let count = 0; count < 50; count++) assert.equal((await ask('same.example.com')).status, 403)
    assert.equal((await subject.denials(0, sandbox)).length, 1)
    const hosts = Array.from({ length: 400 }, (_, index) => `h${index}.example.com`)
    for (let at = 0; at < hosts.length; at += 40) await Promise.all(hosts.slice(at, at + 40).map(ask))
    const told = await subject.denials(0, sandbox)
    assert.ok(told.length >= 200 && told.length < 230, `${told.length} events`)
  })

  test('a name that leads nowhere, and a port where nobody listens, are told from a denial', async () => {
    const sandbox = await subject.newSandbox()
    await subject.allow({ mode: 'internet' }, sandbox)
    for (const [address, code] of [
      ['http://nowhere.test.net/', 'upstream.unresolved'],
      ['http://open.example.com:4444/', 'upstream.unreachable'],
    ] as const) {
      const page = await askProxy(subject, address, {}, sandbox)
      assert.deepEqual([page.status, page.headers['x-atoll-refused']], [502, code])
    }
    assert.deepEqual(await subject.denials(0, sandbox), [])
  })

  test('a sandbox waits for so many connections at once and no more, which end when it leaves, and others are served meanwhile', async () => {
    const [bad, good] = [await subject.newSandbox(), await subject.newSandbox()]
    await Promise.all([subject.allow({ mode: 'internet' }, bad), subject.allow(wide, good)])
    const sockets = await openMany(300, bad)
    const refused = new Promise<void>((resolve) => {
      for (const socket of sockets) socket.on('data', (text) => String(text).startsWith('HTTP/1.1 503 ') && resolve())
    })
    for (const socket of sockets) socket.write('CONNECT silent.test.net:443 HTTP/1.1\r\nHost: silent.test.net:443\r\n\r\n')
    await refused
    assert.equal((await askProxy(subject, 'http://open.example.com/', {}, good)).status, 200)
    for (const socket of sockets) socket.destroy()
    const again = (): Promise<number> =>
      askProxy(subject, 'http://open.example.com/', {}, bad).then(({ status }) => (status === 503 ? again() : status))
    assert.equal(await again(), 200)
  })

  test('tunnels in which nothing is said, or half a request, are closed in the end', { timeout: 60_000 }, async () => {
    const sandbox = await subject.newSandbox()
    await subject.allow(wide, sandbox)
    const looked = await tlsThrough(subject, 'api.example.com:443', { ca: await caOf(sandbox) }, sandbox)
    const plain = await subject.tunnel('open.example.com:80', sandbox)
    const silent = await subject.tunnel('open.example.com:443', sandbox)
    plain.socket.write('GET / HTTP/1.1\r\nHost: open.example.com\r\nX')
    await Promise.all([looked, plain.socket, silent.socket].map((socket) => once(socket.resume(), 'end')))
  })

  test('headers of 1 MiB, slow ones and ten thousand connections of one sandbox leave the others as they were', async () => {
    const [bad, good] = [await subject.newSandbox(), await subject.newSandbox()]
    await Promise.all([subject.allow(wide, bad), subject.allow(wide, good)])
    const large = await subject.send(
      `GET http://open.example.com/ HTTP/1.1\r\nHost: open.example.com\r\nX: ${'x'.repeat(1024 * 1024)}\r\n\r\n`,
      bad,
    )
    assert.ok([431, 0].includes(large.status), String(large.status))
    const slow = await openMany(200, bad)
    for (const socket of slow) socket.write('GET http://open.example.com/ HTTP/1.1\r\nX')
    const held = await flood(bad, good)
    const tunnel = await tlsThrough(subject, 'open.example.com:443', { ca: world }, good)
    for (const socket of [tunnel, ...held]) socket.destroy()
    for (const socket of slow) socket.destroy()
    // The operator learns of each end in its own time.
    const again = (): Promise<number> => askProxy(subject, 'http://open.example.com/', {}, bad).then(({ status }) => status, again)
    assert.equal(await again(), 200, 'and then it is served again')
  })
})
