// A model provider on loopback that does what a test says, and remembers what it was asked.
import { once } from 'node:events'
import http, { type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import http2 from 'node:http2'
import type { Duplex } from 'node:stream'

export interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

export interface TestProvider extends AsyncDisposable {
  readonly url: string
  /** As the operator's owner trusts it. */
  readonly address: string
  readonly seen: Seen[]
  /** What the next requests are answered with. */
  answer: (request: Seen, response: ServerResponse) => void | Promise<void>
  upgrade: (request: IncomingMessage, socket: Duplex) => void
  /** Connections that a client left before its answer was whole. */
  readonly left: () => number
}

const ok = (_: Seen, response: ServerResponse): void => {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify({ model: 'test-1', usage: { prompt_tokens: 10, completion_tokens: 3 } }))
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** @param tls speaks HTTP/2 over TLS, and HTTP/1.1 to those who cannot */
export async function startProvider(tls?: { readonly key: string; readonly cert: string }): Promise<TestProvider> {
  let left = 0
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    response.once('close', () => {
      if (!response.writableFinished) left += 1
    })
    const { method = '', url = '', headers } = request
    const seen = { method, url, headers, body: await bodyOf(request).catch(() => Buffer.alloc(0)) }
    provider.seen.push(seen)
    await provider.answer(seen, response)
  }
  const listener = (request: IncomingMessage, response: ServerResponse): void => void serve(request, response)
  const server = tls
    ? http2.createSecureServer({ ...tls, allowHTTP1: true }, listener as never)
    : http.createServer({ requestTimeout: 0 }, listener)
  server.on('upgrade', (request: IncomingMessage, socket: Duplex) => provider.upgrade(request, socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bound = server.address()
  const port = typeof bound === 'object' && bound ? bound.port : 0
  const provider: TestProvider = {
    url: `${tls ? 'https://localhost' : 'http://127.0.0.1'}:${port}`,
    address: `${tls ? 'localhost' : '127.0.0.1'}:${port}`,
    seen: [],
    answer: ok,
    upgrade: (_, socket) => socket.destroy(),
    left: () => left,
    [Symbol.asyncDispose]: async () => {
      server.close()
      if ('closeAllConnections' in server) server.closeAllConnections()
    },
  }
  return provider
}
