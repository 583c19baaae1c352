// A WebSocket between a sandbox and a provider. What the provider says is read as it passes, for its usage.
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { Failure } from '@atoll/protocol'
import { type Dispatcher, upgrade } from 'undici'
import { FrameReader } from './frame-reader.ts'
import { endToEnd, pairsOf } from './headers.ts'
import { join } from './join.ts'
import type { Admitted } from './model-proxy.ts'
import { headersOf } from './responses.ts'

export interface SandboxSide {
  readonly request: IncomingMessage
  readonly socket: Duplex
  /** What the sandbox sent behind its request already. */
  readonly head: Buffer
  /** Called with each text message of the provider. */
  readonly told: (text: string) => void
}

/** Resolves when both sides are done. @throws Failure when the provider does not open one */
export async function openModelSocket(upstream: Dispatcher, { url, headers, key }: Admitted, side: SandboxSide): Promise<void> {
  const { request, socket, head, told } = side
  if (request.headers.upgrade?.toLowerCase() !== 'websocket') {
    throw new Failure('request.invalid', 'Only a WebSocket can be opened to a provider.')
  }
  // Compressed messages could not be read.
  const plain = endToEnd(headers, ['sec-websocket-extensions'])
  const left = new AbortController()
  socket.once('close', () => left.abort())
  const opened = await upgrade(url, { dispatcher: upstream, headers: plain, protocol: 'websocket', signal: left.signal })
  const lines = pairsOf(headersOf(opened.headers, key.reveal())).map(([name, value]) => `${name}: ${value}`)
  const status = `HTTP/1.1 101 ${http.STATUS_CODES[101]}`
  socket.write(`${[status, 'connection: Upgrade', 'upgrade: websocket', ...lines].join('\r\n')}\r\n\r\n`)
  if (head.length > 0) opened.socket.write(head)
  const frames = new FrameReader(told)
  opened.socket.on('data', (chunk: Buffer) => frames.push(chunk))
  const closed = Promise.all([socket, opened.socket].map((side) => side.destroyed || once(side, 'close')))
  join(socket, opened.socket)
  await closed
}
