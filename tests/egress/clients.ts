// Clients that speak through a sandbox's gateway.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import http2, { type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2'
import type { Duplex } from 'node:stream'
import tls, { type TLSSocket } from 'node:tls'
import type { EgressSubject } from './subject.ts'

export interface Page {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly raw: readonly string[]
  readonly body: Buffer
  readonly trailers: Readonly<Record<string, string | undefined>>
  /** When pieces of the body came, in milliseconds since the first. */
  readonly at: readonly number[]
}

export interface Asking {
  readonly method?: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer | string | AsyncIterable<Buffer>
}

/** @param whole keeps the body; else it is only counted and hashed, in `body` as text */
async function pageOf(answer: IncomingMessage): Promise<Page> {
  const chunks: Buffer[] = []
  const at: number[] = []
  let first: number | undefined
  for await (const chunk of answer) {
    first ??= performance.now()
    at.push(performance.now() - first)
    chunks.push(chunk)
  }
  const { statusCode = 0, headers, rawHeaders: raw, trailers } = answer
  return { status: statusCode, headers, raw, body: Buffer.concat(chunks), trailers, at }
}

/** One request of HTTP/1.1 on a connection, whose path may be a whole address. */
export async function askOver(socket: Duplex, host: string, { method = 'GET', path, headers = {}, body }: Asking): Promise<Page> {
  return pageOf(await answerOver(socket, host, { method, path, headers, ...(body !== undefined && { body }) }))
}

export async function answerOver(
  socket: Duplex,
  host: string,
  { method = 'GET', path, headers = {}, body }: Asking,
): Promise<IncomingMessage> {
  const request = http.request({ createConnection: () => socket, method, path, headers: { host, ...headers } })
  request.on('error', () => undefined)
  const answered = once(request, 'response')
  const send = async (): Promise<void> => {
    if (body !== undefined && typeof body !== 'string' && !Buffer.isBuffer(body)) {
      for await (const chunk of body) if (!request.write(chunk)) await Promise.race([once(request, 'drain'), answered])
      request.end()
    } else request.end(body)
  }
  if (headers['expect']) request.once('continue', () => void send()).flushHeaders()
  else void send()
  const [answer] = await answered
  return answer
}

/** A request to a proxy. */
export const askProxy = (subject: EgressSubject, address: string, asking: Omit<Asking, 'path'> = {}, sandbox?: string): Promise<Page> =>
  askOver(subject.open(sandbox), new URL(address).host, { ...asking, path: address })

export interface TlsOptions {
  readonly serverName?: string
  readonly protocols?: readonly string[]
  readonly ca: string
  readonly more?: tls.ConnectionOptions
}

/** A tunnel, and TLS in it. */
export async function tlsThrough(subject: EgressSubject, target: string, options: TlsOptions, sandbox?: string): Promise<TLSSocket> {
  const { socket, said } = await subject.tunnel(target, sandbox)
  assert.equal(said.status, 200, `${said.status} ${said.text}`)
  const { serverName = target.replace(/:\d+$/, ''), protocols = ['http/1.1'], ca, more } = options
  const secured = tls.connect({ socket, servername: serverName, ALPNProtocols: [...protocols], ca, ...more })
  await once(secured, 'secureConnect')
  return secured.on('error', () => secured.destroy())
}

export async function http2Through(subject: EgressSubject, host: string, ca: string, sandbox?: string): Promise<ClientHttp2Session> {
  const secured = await tlsThrough(subject, `${host}:443`, { protocols: ['h2'], ca }, sandbox)
  assert.equal(secured.alpnProtocol, 'h2')
  return http2.connect(`https://${host}`, { createConnection: () => secured }).on('error', () => undefined)
}

/** One request of HTTP/2. */
export async function askHttp2(session: ClientHttp2Session, headers: object, body?: string): Promise<Omit<Page, 'raw' | 'at'>> {
  const stream = session.request({ ...headers }, { endStream: body === undefined })
  let trailers: IncomingHttpHeaders = {}
  stream.once('trailers', (found) => {
    trailers = found
  })
  const answered = once(stream, 'response')
  if (body !== undefined) stream.end(body)
  const [head] = await answered
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return { status: head[':status'], headers: head, body: Buffer.concat(chunks), trailers: trailers as Record<string, string> }
}

/** Bytes of an answer, without keeping them. */
export async function count(stream: AsyncIterable<Buffer>): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of stream) {
    bytes += chunk.length
    hash.update(chunk)
  }
  return { bytes, sha256: hash.digest('hex') }
}

/** So many bytes, in pieces. */
export async function* many(bytes: number): AsyncGenerator<Buffer> {
  const piece = Buffer.alloc(256 * 1024, 'upload')
  for (let left = bytes; left > 0; left -= piece.length) yield left < piece.length ? piece.subarray(0, left) : piece
}

/** Begins a WebSocket by hand, says something, and answers what comes back. */
export async function echoSocket(socket: Duplex, host: string, path: string): Promise<string> {
  const key = 'dGhlIHNhbXBsZSBub25jZQ=='
  const lines = [`GET ${path} HTTP/1.1`, `Host: ${host}`, 'Upgrade: websocket', 'Connection: Upgrade', `Sec-WebSocket-Key: ${key}`]
  socket.write(`${[...lines, 'Sec-WebSocket-Version: 13', '', ''].join('\r\n')}`)
  let text = ''
  for await (const chunk of socket) {
    text += String(chunk)
    if (text.includes('\r\n\r\n') && !text.includes('frames')) socket.write('frames of any kind')
    if (text.endsWith('frames of any kind') || !text.startsWith('HTTP/1.1 101')) break
  }
  socket.destroy()
  return text
}
