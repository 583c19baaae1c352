// Requests of HTTP/2 that are looked into, and passed on over a connection of HTTP/2 that is theirs alone.
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { TLSSocket } from 'node:tls'
import { textOf } from '../addresses.ts'
import { denialHeaders, denialText } from './denials.ts'
import type { Asked, Exchanges, Site } from './exchanges.ts'
import { guarded } from './forward.ts'

const { NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM, NGHTTP2_FLAG_END_STREAM } = http2.constants
const maxStreams = 128

/** Serves a sandbox's connection until either side closes its own. */
export function serveHttp2(site: Site, inside: TLSSocket, outside: TLSSocket, exchanges: Exchanges): void {
  const upstream = http2.connect(`https://${textOf(site.connection)}`, { createConnection: () => outside, settings: { enablePush: false } })
  const session = http2.performServerHandshake(inside, { settings: { maxConcurrentStreams: maxStreams, enableConnectProtocol: false } })
  session.on('error', () => session.destroy())
  upstream.on('error', () => upstream.destroy())
  upstream.once('goaway', () => session.close())
  upstream.once('close', () => (session.destroyed ? undefined : session.close()))
  session.once('close', () => upstream.destroy())
  inside.once('close', () => session.destroy())
  session.on('stream', (stream, headers, flags) => {
    stream.on('error', () => stream.destroy())
    const isWhole = (flags & NGHTTP2_FLAG_END_STREAM) !== 0
    answer(stream, { site, upstream, headers, isWhole }, exchanges).catch(() => stream.close(NGHTTP2_REFUSED_STREAM))
  })
}

interface Received {
  readonly site: Site
  readonly upstream: ClientHttp2Session
  readonly headers: IncomingHttpHeaders
  /** Nothing but headers. */
  readonly isWhole: boolean
}

async function answer(stream: ServerHttp2Stream, received: Received, exchanges: Exchanges): Promise<void> {
  const { site, headers } = received
  const asked: Asked = {
    method: headers[':method'] ?? '',
    path: headers[':path'] ?? '',
    hosts: [headers[':authority'], headers.host].filter((host) => host !== undefined),
  }
  // A tunnel in the tunnel, or another scheme: nothing that a request of HTTPS has.
  if (headers[':scheme'] !== 'https' || asked.method === 'CONNECT') return stream.close(NGHTTP2_REFUSED_STREAM)
  const hosts = [...new Set(asked.hosts.map((host) => host.toLowerCase()))]
  const denied = await exchanges.check(site, { ...asked, hosts })
  if (!isOpen(stream)) return
  if (denied) {
    const text = denialText(denied)
    guarded(() => stream.respond({ ':status': 403, ...denialHeaders(denied.denial, text) }), [stream])
    return void stream.end(text)
  }
  stream.once(
    'close',
    exchanges.follow(site, asked, () => stream.close(NGHTTP2_CANCEL)),
  )
  const secrets = await exchanges.secrets(site, asked)
  if (isOpen(stream)) pass(stream, { ...received, headers: { ...headers, ...Object.fromEntries(secrets) } })
}

/** Of the way to the proxy, or of one connection: none of it has a place in HTTP/2, and Node throws at it. */
const ofConnection = new Set([':status', 'connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'http2-settings'])
const withoutProxy = (headers: IncomingHttpHeaders): IncomingHttpHeaders =>
  Object.fromEntries(
    Object.entries(headers).filter(
      ([name]) => !name.startsWith('proxy-') && !ofConnection.has(name) && (name !== 'te' || headers.te === 'trailers'),
    ),
  )

const isOpen = (stream: ServerHttp2Stream): boolean => !stream.destroyed && !stream.closed

function pass(stream: ServerHttp2Stream, { upstream, headers, isWhole }: Received): void {
  if (upstream.closed || upstream.destroyed) return void stream.close(NGHTTP2_REFUSED_STREAM)
  const request = upstream.request(withoutProxy(headers), { endStream: isWhole, waitForTrailers: !isWhole })
  request.on('error', () => request.destroy())
  if (!isWhole) {
    passTrailers(stream, request)
    stream.pipe(request)
  }
  request.on('headers', (more) => {
    if (!stream.headersSent && isOpen(stream)) guarded(() => stream.additionalHeaders(more), [stream, request])
  })
  request.once('response', (answered, flags) => {
    if (!isOpen(stream)) return
    const endStream = (flags & NGHTTP2_FLAG_END_STREAM) !== 0
    const head = { ...withoutProxy(answered), ':status': answered[':status'] ?? 502 }
    guarded(() => stream.respond(head, { endStream, waitForTrailers: !endStream }), [stream, request])
    if (endStream || !isOpen(stream)) return
    passTrailers(request, stream)
    request.pipe(stream)
  })
  stream.once('close', () => request.close(stream.rstCode))
  request.once('close', () => {
    if (!stream.destroyed && !stream.writableEnded) stream.close(request.rstCode || NGHTTP2_REFUSED_STREAM)
  })
}

/** Each side ends with the trailers of the other, or without any. */
function passTrailers(from: ServerHttp2Stream | ClientHttp2Stream, to: ServerHttp2Stream | ClientHttp2Stream): void {
  let trailers: IncomingHttpHeaders = {}
  from.once('trailers', (found) => {
    trailers = found
  })
  to.once('wantTrailers', () => guarded(() => to.sendTrailers(withoutProxy({ ...trailers, te: undefined })), [to, from]))
}
