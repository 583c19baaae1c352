// Attacks on rules: by names that look like others, by what a tunnel carries, and by requests that are looked into.
import { Duplex } from 'node:stream'
import tls from 'node:tls'
import type { EgressDenial, EgressPolicyInput } from '@atoll/protocol'
import { askHttp2, http2Through, tlsThrough } from '../clients.ts'
import { type EgressSubject, readAll } from '../subject.ts'
import { type Attack, bytes, cutOff, type Outcome, outcomeIn, proxied, tunnelTo } from './attack.ts'

export const attackedRules: EgressPolicyInput = {
  mode: 'allowlist',
  rules: [
    { host: 'open.example.com' },
    { host: '*.sni.example.com' },
    { host: '*.below.example.com' },
    { host: 'get.example.com', methods: ['GET'] },
    { host: 'repo.example.com', methods: ['GET'], path_prefix: '/repo' },
    { host: 'false.example.com', methods: ['GET'] },
  ],
}

const lookalikes = [
  ...['openexample.com', 'open.example.com.evil.net', 'xopen.example.com', 'a.open.example.com', 'below.example.com', 'xbelow.example.com'],
  ...['a.below.example.com.evil.net', 'open-example.com', 'example.com', 'xn--opn-9la.example.com', '93.184.216.34', 'open.example.co'],
]

/** A tunnel that is there, and what comes of bytes in it. */
const inTunnel = (
  name: string,
  target: string,
  what: Buffer | string,
  event: EgressDenial | undefined,
  status: readonly number[] = [0],
): Attack => ({
  name,
  event,
  status,
  run: async (subject, sandbox) => {
    const { socket } = await subject.tunnel(target, sandbox)
    const answer = readAll(socket)
    socket.write(what)
    const text = await answer
    // A farewell of TLS is no word.
    return text.charCodeAt(0) === 21 ? cutOff : outcomeIn(text)
  },
})

/** TLS that names somebody else. */
const tlsFor = (name: string, host: string, options: tls.ConnectionOptions): Attack => ({
  name,
  event: 'tls_name',
  status: [0],
  run: async (subject, sandbox) => {
    const { socket } = await subject.tunnel(`${host}:443`, sandbox)
    const secured = tls.connect({ socket, rejectUnauthorized: false, ...options })
    const begun = new Promise<Outcome>((resolve) => {
      secured.once('secureConnect', () => resolve({ status: 200, denied: undefined }))
    })
    const outcome = await Promise.race([begun, ended(secured)])
    secured.destroy()
    return outcome
  },
})

const ended = (secured: tls.TLSSocket): Promise<Outcome> =>
  new Promise((resolve) => {
    secured.on('error', () => resolve(cutOff)).once('close', () => resolve(cutOff))
  })

const record = (type: number, content: Buffer): Buffer => {
  const header = Buffer.from([type, 3, 1, 0, 0])
  header.writeUInt16BE(content.length, 3)
  return Buffer.concat([header, content])
}

/** The first bytes of a client. */
function greeting(servername: string | undefined): Promise<Buffer> {
  return new Promise((resolve) => {
    const wire = new Duplex({ read: () => undefined, write: (chunk: Buffer) => resolve(chunk) })
    tls.connect({ socket: wire, ...(servername !== undefined && { servername }) }).on('error', () => undefined)
  })
}

/** A greeting of one's own making. */
const greetingAttack = (name: string, host: string, make: (host: string) => Promise<Buffer>, event: EgressDenial = 'tls_name'): Attack => ({
  name,
  event,
  // Who speaks no TLS is told in plain text.
  status: [0, 403],
  run: async (subject, sandbox) => inTunnel(name, `${host}:443`, await make(host), event).run(subject, sandbox),
})

const cutIntoRecords = (bytes: Buffer, size: number): Buffer => {
  const message = bytes.subarray(5)
  const pieces = Array.from({ length: Math.ceil(message.length / size) }, (_, index) => message.subarray(index * size, (index + 1) * size))
  return Buffer.concat(pieces.map((piece) => record(22, piece)))
}

const greetings: readonly Attack[] = [
  tlsFor('TLS for another host', 'one.sni.example.com', { servername: 'evil.example.com' }),
  tlsFor('TLS for another host that is allowed too', 'two.sni.example.com', { servername: 'open.example.com' }),
  tlsFor('TLS for a host below', 'three.sni.example.com', { servername: 'a.three.sni.example.com' }),
  tlsFor('TLS for no host', 'four.sni.example.com', {}),
  tlsFor('TLS for a host with a dot at its end', 'five.sni.example.com', { servername: 'five.sni.example.com.' }),
  tlsFor('TLS of 1.2 for another host', 'six.sni.example.com', { servername: 'evil.example.com', maxVersion: 'TLSv1.2' }),
  tlsFor('TLS for another host where requests are looked into', 'get.example.com', { servername: 'evil.example.com' }),
  greetingAttack('a greeting for another host, in records of one byte', 'seven.sni.example.com', async () =>
    cutIntoRecords(await greeting('evil.example.com'), 1),
  ),
  greetingAttack('a second greeting for another host behind the first', 'eight.sni.example.com', async (host) =>
    Buffer.concat([await greeting(host), record(20, Buffer.from([1])), await greeting('evil.example.com')]),
  ),
  greetingAttack('a greeting with another one in the same record', 'nine.sni.example.com', async (host) => {
    const [first, second] = [await greeting(host), await greeting('evil.example.com')]
    return record(22, Buffer.concat([first.subarray(5), second.subarray(5)]))
  }),
  greetingAttack('a greeting that says it is 16 MiB long', 'ten.sni.example.com', async () =>
    record(22, Buffer.from([1, 255, 255, 255, 3, 3])),
  ),
  greetingAttack('a greeting with a name of no characters', 'eleven.sni.example.com', async (host) => {
    const hello = await greeting(host)
    hello.writeUInt16BE(0, hello.indexOf(host) - 2)
    return hello
  }),
  greetingAttack('a greeting whose name has a byte of zero in it', 'twelve.sni.example.com', async (host) => {
    const hello = await greeting(host)
    hello[hello.indexOf(host) + 3] = 0
    return hello
  }),
  greetingAttack(
    'a greeting of the first SSL',
    'a13.sni.example.com',
    async () => Buffer.from('802e0103010015000000100000', 'hex'),
    'not_tls',
  ),
  greetingAttack('a record that is too long', 'a14.sni.example.com', async () => Buffer.from([22, 3, 1, 255, 255, 1]), 'not_tls'),
  greetingAttack('an alert before any greeting', 'a15.sni.example.com', async () => Buffer.from([21, 3, 3, 0, 2, 1, 0]), 'not_tls'),
  greetingAttack(
    'data before any greeting',
    'a16.sni.example.com',
    async () => record(23, Buffer.from('GET / HTTP/1.1\r\n\r\n')),
    'not_tls',
  ),
]

const notTls: readonly Attack[] = [
  inTunnel(
    'plain HTTP in a tunnel for TLS',
    'b1.sni.example.com:443',
    'GET / HTTP/1.1\r\nHost: b1.sni.example.com\r\n\r\n',
    'not_tls',
    [403],
  ),
  inTunnel('SSH in a tunnel', 'b2.sni.example.com:443', 'SSH-2.0-OpenSSH_9.2\r\n', 'not_tls', [403]),
  inTunnel('mail in a tunnel', 'b3.sni.example.com:443', 'EHLO evil\r\nMAIL FROM:<a@b>\r\n', 'not_tls', [403]),
  inTunnel('HTTP/2 without TLS in a tunnel', 'b4.sni.example.com:443', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'not_tls', [403]),
  inTunnel('SSH in a tunnel for plain HTTP', 'b5.sni.example.com:80', 'SSH-2.0-OpenSSH_9.2\r\n', undefined, [400]),
  inTunnel('HTTP/2 in a tunnel for plain HTTP', 'b6.sni.example.com:80', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', undefined, [400]),
  inTunnel('TLS in a tunnel for plain HTTP', 'b7.sni.example.com:80', record(22, Buffer.from([1, 0, 0, 4, 3, 3, 0, 0])), 'tls_name'),
  inTunnel(
    'another host in a tunnel for plain HTTP',
    'b8.sni.example.com:80',
    'GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n',
    'host_mismatch',
    [403],
  ),
  inTunnel(
    'a whole address in a tunnel',
    'b9.sni.example.com:80',
    'GET http://evil.example.com/ HTTP/1.1\r\nHost: b9.sni.example.com\r\n\r\n',
    'bad_target',
    [403],
  ),
  inTunnel(
    'a tunnel in a tunnel',
    'b10.sni.example.com:80',
    'CONNECT evil.example.com:443 HTTP/1.1\r\nHost: evil.example.com:443\r\n\r\n',
    undefined,
    [400],
  ),
]

/** A request in TLS that is looked into. */
const lookedInto = (
  name: string,
  host: string,
  head: string,
  event: EgressDenial | undefined,
  status: readonly number[] = [403],
): Attack => ({
  name,
  event,
  status,
  run: async (subject, sandbox) => {
    const secured = await tlsThrough(subject, `${host}:443`, { ca: await caOf(subject, sandbox) }, sandbox)
    const answer = readAll(secured)
    secured.write(head, 'latin1')
    return outcomeIn(await answer)
  },
})

const cas = new Map<string, Promise<string>>()
const caOf = (subject: EgressSubject, sandbox: string): Promise<string> => {
  const known = cas.get(sandbox) ?? subject.run('cat "$NODE_EXTRA_CA_CERTS"', sandbox).then(({ out }) => out)
  cas.set(sandbox, known)
  return known
}

const severalReadings = [
  ...[
    '/repo/../admin',
    '/repo/./x',
    '/repo/..',
    '/repo/%2e%2e/admin',
    '/repo/%2E%2E/admin',
    '/repo/.%2e/admin',
    '/repo/..%2fadmin',
    '/repo//admin',
  ],
  ...[
    '/repo/..;/admin',
    '/repo/;x/admin',
    '/repo/%5c..%5cadmin',
    '/repo\\..\\admin',
    '/repo/%00',
    '/repo/%0d%0aHost:evil',
    '/repo%2f..%2fadmin',
  ],
  ...[
    '//evil.example.com/repo',
    '/./repo/x',
    '/%2e/repo',
    '/repo/%252e%252e/admin',
    '/repo/%u002e%u002e/admin',
    '/repo/%',
    '/repo/%c0%ae%c0%ae%2f',
  ],
]
const otherPaths = ['/', '/repository', '/REPO', '/rep', '/admin?/repo', '/other?x=/repo/', '/%72epo']

const request = (line: string, host: string, more = ''): string => `${line} HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`

const requests: readonly Attack[] = [
  ...severalReadings.map((path) =>
    lookedInto(`the path ${path}`, 'repo.example.com', request(`GET ${path}`, 'repo.example.com'), 'path', [403]),
  ),
  ...otherPaths.map((path) => lookedInto(`the path ${path}`, 'repo.example.com', request(`GET ${path}`, 'repo.example.com'), 'no_rule')),
  ...['POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'TRACE', 'PROPFIND'].map((method) =>
    lookedInto(`the method ${method}`, 'get.example.com', request(`${method} /by-method`, 'get.example.com'), 'no_rule'),
  ),
  lookedInto('a method in small letters', 'get.example.com', request('get /small', 'get.example.com'), undefined, [400]),
  lookedInto('another host in TLS', 'get.example.com', request('GET /c1', 'evil.example.com'), 'host_mismatch'),
  lookedInto('an allowed host that TLS was not for', 'get.example.com', request('GET /c2', 'repo.example.com'), 'host_mismatch'),
  lookedInto(
    'two hosts in TLS',
    'get.example.com',
    request('GET /c3', 'get.example.com', 'Host: evil.example.com\r\n'),
    'host_mismatch',
    [403, 400],
  ),
  lookedInto('no host in TLS', 'get.example.com', 'GET /c4 HTTP/1.0\r\n\r\n', 'host_mismatch'),
  lookedInto('a whole address in TLS', 'get.example.com', request('GET https://evil.example.com/c5', 'get.example.com'), 'bad_target'),
  lookedInto('a tunnel in TLS', 'get.example.com', request('CONNECT evil.example.com:443', 'evil.example.com:443'), undefined, [400]),
  lookedInto(
    'a method that overrides another',
    'get.example.com',
    request('POST /c6', 'get.example.com', 'X-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n'),
    'no_rule',
  ),
  lookedInto(
    'an upgrade with a method that no rule names',
    'get.example.com',
    request('POST /c7', 'get.example.com', 'Upgrade: websocket\r\nConnection: Upgrade\r\n'),
    'no_rule',
  ),
  lookedInto('a server that cannot show who it is', 'false.example.com', request('GET /', 'false.example.com'), undefined, [502]),
]

const overHttp2 = (
  name: string,
  host: string,
  headers: object,
  event: EgressDenial | undefined,
  status: readonly number[] = [403],
): Attack => ({
  name: `${name}, in HTTP/2`,
  event,
  status,
  run: async (subject, sandbox) => {
    const session = await http2Through(subject, host, await caOf(subject, sandbox), sandbox)
    try {
      const page = await askHttp2(session, headers)
      return { status: page.status, denied: page.headers['x-atoll-denied']?.toString() }
    } catch {
      return cutOff
    } finally {
      session.destroy()
    }
  },
})

const http2Attacks: readonly Attack[] = [
  overHttp2('another authority', 'get.example.com', { ':authority': 'evil.example.com', ':path': '/d1' }, 'host_mismatch'),
  overHttp2('an authority with another port', 'get.example.com', { ':authority': 'get.example.com:8443', ':path': '/d2' }, 'host_mismatch'),
  overHttp2('an authority and another host', 'get.example.com', { ':path': '/d3', host: 'evil.example.com' }, 'host_mismatch'),
  overHttp2('an authority with a user', 'get.example.com', { ':authority': 'x@get.example.com', ':path': '/d4' }, undefined, [0]),
  overHttp2('a method that no rule names', 'get.example.com', { ':method': 'DELETE', ':path': '/d5' }, 'no_rule'),
  overHttp2('another scheme', 'get.example.com', { ':scheme': 'http', ':path': '/d6' }, undefined, [0]),
  overHttp2('a tunnel', 'get.example.com', { ':method': 'CONNECT', ':authority': 'evil.example.com:443' }, undefined, [0]),
  overHttp2('a whole address', 'get.example.com', { ':path': 'https://evil.example.com/' }, undefined, [0]),
  ...['/repo/../d', '/repo/%2e%2e/d', '/repo//d', '/repo/..;/d', '/repo/..%2fd', '/repo/\\d'].map((path) =>
    overHttp2(`the path ${path}`, 'repo.example.com', { ':path': path }, 'path'),
  ),
  overHttp2('the path /elsewhere', 'repo.example.com', { ':path': '/elsewhere' }, 'no_rule'),
]

export const ruleAttacks: readonly Attack[] = [
  ...lookalikes.map((host) => tunnelTo(`${host}:443`, 'no_rule')),
  ...lookalikes.slice(0, 4).map((host) => proxied(`http://${host}/`, 'no_rule')),
  tunnelTo('open.example.com:8443', 'no_rule'),
  tunnelTo('open.example.com:22', 'no_rule'),
  proxied('http://open.example.com:8080/', 'no_rule'),
  proxied('http://open.example.com:443/', 'no_rule'),
  proxied('http://open.example.com/e1', 'host_mismatch', 'a.below.example.com'),
  bytes('a path with a space in it', 'GET http://open.example.com/a b HTTP/1.1\r\nHost: open.example.com\r\n\r\n', undefined, [400]),
  bytes('a path outside of ASCII', 'GET http://open.example.com/\xe4 HTTP/1.1\r\nHost: open.example.com\r\n\r\n', undefined, [400]),
  ...greetings,
  ...notTls,
  ...requests,
  ...http2Attacks,
]
