// One process for every address of the world: names, HTTP, HTTPS in both versions, and two services that are neither.
import { execFileSync } from 'node:child_process'
import { createHash, createPrivateKey, createPublicKey } from 'node:crypto'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import http2 from 'node:http2'
import net, { type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import tls from 'node:tls'
import { gzipSync } from 'node:zlib'
import { newKeys, serverCertificate } from '../../operator/src/gateway/egress/certificates.ts'
import { type Answer, startDnsServer } from '../../operator/src/gateway/testing/dns-server.ts'
import { packageHosts } from './packages.ts'
import { far, type Reached } from './world.ts'

type Names = Readonly<Record<string, Answer | { readonly turns: readonly Answer[] }>>

const names: Record<string, Answer | { turns: Answer[] }> = {}
let reached: Reached[] = []

const ip = (...args: readonly string[]): void => void execFileSync('ip', [...args], { stdio: ['ignore', 'ignore', 'inherit'] })

function note(socket: Socket, name: string, path?: string): void {
  const address = (socket.localAddress ?? '').replace('::ffff:', '')
  reached.push({ address, port: socket.localPort ?? 0, name, ...(path !== undefined && { path }) })
}

/** `*.` in the table stands for whatever is below. */
function answerOf(name: string): Answer | undefined {
  const labels = name.split('.')
  const above = labels.map((_, index) => `*.${labels.slice(index + 1).join('.')}`)
  const found = [name, ...above].map((one) => names[one]).find((one) => one !== undefined)
  if (!found || !('turns' in found)) return found
  return found.turns.length > 1 ? found.turns.shift() : found.turns[0]
}

async function digest(body: AsyncIterable<Buffer>): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    hash.update(chunk)
  }
  return { bytes, sha256: hash.digest('hex') }
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

async function sendMany(response: ServerResponse, bytes: number): Promise<void> {
  const piece = Buffer.alloc(256 * 1024, 'atoll')
  for (let left = bytes; left > 0 && !response.destroyed; left -= piece.length) {
    if (!response.write(left < piece.length ? piece.subarray(0, left) : piece))
      await new Promise((resolve) => response.once('drain', resolve))
  }
  response.end()
}

/** What there is, by path. Everything else tells what was asked. */
const pages: Readonly<
  Record<string, (request: IncomingMessage, response: ServerResponse, query: URLSearchParams) => void | Promise<void>>
> = {
  '/events': async (_, response, query) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    for (let count = 0; count < 3; count++) {
      response.write(`data: ${count}\n\n`)
      await wait(Number(query.get('gap') ?? 300))
    }
    response.end()
  },
  '/bytes': (_, response, query) => {
    response.writeHead(200, { 'content-length': query.get('count') ?? '0' })
    return sendMany(response, Number(query.get('count') ?? 0))
  },
  '/gzip': (_, response) => {
    response.writeHead(200, { 'content-encoding': 'gzip', 'content-type': 'text/plain' })
    response.end(gzipSync('packed'))
  },
  '/trailers': (_, response) => {
    response.writeHead(200, { trailer: 'x-end' })
    response.write('body')
    response.addTrailers({ 'x-end': 'reached' })
    response.end()
  },
  '/silent': () => undefined,
  '/hold': (_, response) => void response.writeHead(200).write('begun'),
  '/cut': (_, response) => {
    response.writeHead(200, { 'content-length': '100' })
    response.write('half', () => response.destroy())
  },
  '/redirect': (_, response, query) => void response.writeHead(302, { location: query.get('to') ?? '/' }).end(),
  '/cookies': (_, response) => void response.writeHead(200, ['Set-Cookie', 'a=1', 'X-Odd-Case', 'Kept', 'set-cookie', 'b=2']).end('ok'),
  '/continue': async (request, response) => {
    response.writeContinue()
    response.end(JSON.stringify(await digest(request)))
  },
  '/early': (_, response) => void response.writeHead(413, { connection: 'close' }).end('too large'),
  '/empty': (_, response) => void response.writeHead(204).end(),
}

async function tell(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method, url, headers, httpVersion } = request
  const body = await digest(request)
  const trailers = request.trailers
  response.writeHead(200, { 'content-type': 'application/json', 'x-seen-by': 'world' })
  response.end(method === 'HEAD' ? undefined : JSON.stringify({ method, url, headers, httpVersion, body, trailers }))
}

const hosts = packageHosts()

function serve(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', 'http://world')
  const { pathname, searchParams } = url
  note(request.socket, String(request.headers[':authority'] ?? request.headers.host ?? ''), request.url)
  response.on('error', () => undefined)
  const host = hosts[String(request.headers[':authority'] ?? request.headers.host)]
  if (host) {
    host(request, response, url)
    return
  }
  // Whoever breaks off in the middle gets nothing.
  const served = async (): Promise<void> => (pages[pathname] ?? tell)(request, response, searchParams)
  served().catch(() => response.destroy())
}

/** Echoes what comes on an upgraded connection. */
function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
  note(request.socket, String(request.headers.host), request.url)
  socket.on('error', () => socket.destroy())
  if (request.url === '/refused') return void socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno')
  const accept = createHash('sha1')
    .update(`${request.headers['sec-websocket-key'] ?? ''}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64')
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
  socket.write(head)
  socket.pipe(socket)
}

function contexts(keyPem: string) {
  const privateKey = createPrivateKey(keyPem)
  const authority = { name: 'The world', privateKey, publicKey: createPublicKey(privateKey) }
  const keys = newKeys()
  const key = keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const hour = 3_600_000
  const validity = { notBefore: new Date(Date.now() - hour), notAfter: new Date(Date.now() + 24 * hour) }
  return (name: string) => tls.createSecureContext({ key, cert: serverCertificate(name, keys.publicKey, authority, validity) })
}

function start(key: string): void {
  const contextOf = contexts(key)
  const plain = http.createServer(serve).on('upgrade', upgrade).on('checkContinue', serve)
  const options = {
    allowHTTP1: true,
    SNICallback: (name: string, done: (error: Error | null, context?: tls.SecureContext) => void) =>
      // A server that cannot show that it is who was asked for.
      done(null, contextOf(name.startsWith('false.') ? 'somebody.else.example' : name)),
  }
  const secure = () => {
    const server = http2.createSecureServer(options)
    server.on('request', (request, response) => serve(request as unknown as IncomingMessage, response as unknown as ServerResponse))
    server.on('upgrade', upgrade)
    server.on('checkContinue', (request, response) => serve(request as unknown as IncomingMessage, response as unknown as ServerResponse))
    server.on('secureConnection', (socket) => note(socket, String(socket.servername)))
    return server
  }
  for (const port of [80, 8080, 3000]) net.createServer((socket) => plain.emit('connection', socket)).listen(port, '::')
  for (const port of [443, 8443]) secure().listen(port, '::')
  for (const port of [22, 25]) {
    const greet = (socket: Socket): void => {
      note(socket, '')
      socket.on('error', () => socket.destroy()).end('220 hello\r\n')
    }
    net.createServer(greet).listen(port, '::')
  }
}

function learn(more: Names): void {
  for (const [name, answer] of Object.entries(more)) names[name] = 'turns' in answer ? { turns: [...answer.turns] } : answer
}

async function begin({ names: more, key }: { names: Names; key: string }): Promise<void> {
  ip('link', 'set', 'lo', 'up')
  ip('address', 'add', `${far.four}/24`, 'dev', 'out')
  ip('-6', 'address', 'add', `${far.six}/64`, 'dev', 'out', 'nodad')
  ip('link', 'set', 'out', 'up')
  ip('route', 'add', 'local', 'default', 'dev', 'lo', 'table', 'main')
  ip('-6', 'route', 'add', 'local', 'default', 'dev', 'lo', 'table', 'main')
  learn(more)
  await startDnsServer(answerOf, far.four, 53)
  start(key)
}

process.on('message', async (message: { start?: { names: Names; key: string }; names?: Names; reached?: boolean }) => {
  if (message.start) await begin(message.start)
  if (message.names) learn(message.names)
  const result = message.reached ? reached : undefined
  if (message.reached) reached = []
  process.send?.({ result })
})
process.on('disconnect', () => process.exit())
process.send?.({})
