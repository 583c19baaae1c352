// A WebSocket between a sandbox and a provider. What the provider says is read as it passes, for its usage.
import http, { type IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { Failure } from '@atoll/protocol'
import { type Dispatcher, upgrade } from 'undici'
import { FrameReader } from './frame-reader.ts'
import type { Admitted } from './model-proxy.ts'

export interface SandboxSide {
  readonly request: IncomingMessage
  readonly socket: Duplex
  /** What the sandbox sent behind its request already. */
  readonly head: Buffer
  /** Called with each text message of the provider. */
  readonly told: (text: string) => void
}

/** Resolves when both sides are done. @throws Failure when the provider does not open one */
export async function openModelSocket(upstream: Dispatcher, { url, headers }: Admitted, side: SandboxSide): Promise<void> {
  const { request, socket, head, told } = side
  if (request.headers.upgrade?.toLowerCase() !== 'websocket') {
    throw new Failure('request.invalid', 'Only a WebSocket can be opened to a provider.')
  }
  // Compressed messages could not be read.
  const plain = withoutExtensions(headers)
  const left = new AbortController()
  socket.once('close', () => left.abort())
  const opened = await upgrade(url, { dispatcher: upstream, headers: plain, protocol: 'websocket', signal: left.signal })
  const lines = Object.entries(opened.headers).flatMap(([name, value]) =>
    value === undefined || unwanted.has(name) ? [] : [`${name}: ${String(value)}`],
  )
  const status = `HTTP/1.1 101 ${http.STATUS_CODES[101]}`
  socket.write(`${[status, 'connection: Upgrade', 'upgrade: websocket', ...lines].join('\r\n')}\r\n\r\n`)
  if (head.length > 0) opened.socket.write(head)
  const frames = new FrameReader(told)
  opened.socket.on('data', (chunk: Buffer) => frames.push(chunk))
  await join(socket, opened.socket)
}

const unwanted = new Set(['connection', 'upgrade', 'set-cookie', 'alt-svc'])

function withoutExtensions(headers: readonly string[]): string[] {
  const kept: string[] = []
  for (let index = 0; index + 1 < headers.length; index += 2) {
    if (headers[index] !== 'sec-websocket-extensions') kept.push(headers[index] ?? '', headers[index + 1] ?? '')
  }
  return kept
}

/** Each side may end its half and go on reading; a side that breaks takes the other one along. */
function join(one: Duplex, other: Duplex): Promise<void> {
  const sides = [
    [one, other],
    [other, one],
  ] as const
  const closed = sides.map(
    ([from, to]) =>
      new Promise<void>((resolve) => {
        const over = (): void => {
          to.destroy()
          resolve()
        }
        if (from.destroyed) return over()
        from.pipe(to)
        from.on('error', () => to.destroy())
        from.once('close', over)
      }),
  )
  return Promise.all(closed).then(() => undefined)
}
