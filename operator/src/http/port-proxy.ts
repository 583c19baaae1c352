// Passes requests and upgrades on to a program in a sandbox, over the guest channel, as they come.
import http, { type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Failure } from '@atoll/protocol'
import { isOurs } from '../auth/auth.ts'
import type { Activity } from '../sandboxes/activity.ts'
import type { Guests } from '../sandboxes/guests.ts'
import type { Lifecycle } from '../sandboxes/lifecycle.ts'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import { streamBegins } from './answers.ts'
import { assertExposed, previewCookie } from './preview.ts'
import type { ProxyAddress } from './proxy-address.ts'

const hopByHop = [
  'connection',
  'keep-alive',
  'transfer-encoding',
  'te',
  'trailer',
  'upgrade',
  'proxy-authorization',
  'proxy-authenticate',
  'proxy-connection',
]
const replaced = ['host', 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-real-ip', 'forwarded', 'x-request-id', 'expect']

export interface ProxyParts {
  readonly guests: Guests
  readonly lifecycle: Pick<Lifecycle, 'awake'>
  readonly activity: Activity
  /** How long the program may take until its answer begins. */
  readonly answerDeadlineMs: number
}

export interface ProxyCall {
  readonly sandbox: SandboxRecord
  readonly address: ProxyAddress
  readonly requestId: string
  readonly clientAddress: string
  readonly isSecure: boolean
}

/** Headers but for those of the connection itself, also the ones that `Connection` names. */
function endToEnd(headers: IncomingHttpHeaders, more: readonly string[] = []): OutgoingHttpHeaders {
  const named = (headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase())
  const left = new Set([...hopByHop, ...named, ...more])
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !left.has(name)))
}

function withoutPreviewCookie(cookie: string | undefined): string | undefined {
  const kept = (cookie ?? '').split(';').filter((pair) => pair.trim() !== '' && !pair.trim().startsWith(`${previewCookie}=`))
  return kept.length > 0 ? kept.join(';').trim() : undefined
}

/** Credentials of the operator, which no program may see, whatever it was that opened the port. */
const credentialsIn = ({ authorization, 'x-api-key': apiKey }: IncomingHttpHeaders): string[] => [
  ...(isOurs.authorization(authorization) ? ['authorization'] : []),
  ...(isOurs.apiKey(apiKey) ? ['x-api-key'] : []),
]

function requestHeaders(incoming: IncomingMessage, { address, requestId, clientAddress, isSecure }: ProxyCall): OutgoingHttpHeaders {
  const headers = endToEnd(incoming.headers, [...replaced, ...credentialsIn(incoming.headers)])
  const cookie = withoutPreviewCookie(incoming.headers.cookie)
  if (cookie === undefined) delete headers['cookie']
  else headers['cookie'] = cookie
  return {
    ...headers,
    // The name under which programs that check it expect to be called.
    host: `localhost:${address.port}`,
    'x-forwarded-for': clientAddress,
    'x-forwarded-proto': isSecure ? 'https' : 'http',
    ...(incoming.headers.host !== undefined && { 'x-forwarded-host': incoming.headers.host }),
    'x-request-id': requestId,
  }
}

/** A port that shares the operator's origin must not act as the operator's own pages. */
const sharedOriginPolicy = 'sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads'

function answerHeaders(answer: IncomingMessage, { address }: ProxyCall): OutgoingHttpHeaders {
  const headers = endToEnd(answer.headers)
  const policy = headers['content-security-policy']
  return {
    ...headers,
    'x-content-type-options': headers['x-content-type-options'] ?? 'nosniff',
    ...(address.via === 'path' && {
      'content-security-policy': [policy, sharedOriginPolicy]
        .flat()
        .filter((value) => value !== undefined)
        .join(', '),
    }),
  }
}

const failureOf = (error: unknown): Failure =>
  error instanceof Failure
    ? error
    : new Failure('port.closed', 'The program behind the port closed the connection without an answer.', { cause: error })

export class PortProxy {
  readonly #parts: ProxyParts

  constructor(parts: ProxyParts) {
    this.#parts = parts
  }

  /** Passes one request on. Resolves when the answer is complete. @throws Failure when there is no answer to pass on */
  async request(call: ProxyCall, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    await this.#held(call, async (socket) => {
      const answer = await this.#ask(call, incoming, socket)
      outgoing.writeHead(answer.statusCode ?? 502, answer.statusMessage, answerHeaders(answer, call))
      outgoing.flushHeaders()
      outgoing.emit(streamBegins)
      // Either side may break off; then the other is cut too, so that half an answer never looks whole.
      await pipeline(answer, outgoing).catch(() => outgoing.destroy())
    })
  }

  #ask(call: ProxyCall, incoming: IncomingMessage, socket: Duplex): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = http.request({
        createConnection: () => socket,
        method: incoming.method,
        path: call.address.target,
        // Node frames a body of unknown length by itself for some methods only.
        headers: { ...requestHeaders(incoming, call), ...(incoming.headers['transfer-encoding'] && { 'transfer-encoding': 'chunked' }) },
        setHost: false,
      })
      const timer = setTimeout(() => {
        request.destroy(new Failure('port.timeout', `Port proxy timed out after ${this.#parts.answerDeadlineMs / 1000}s`))
      }, this.#parts.answerDeadlineMs)
      request.once('close', () => clearTimeout(timer))
      request.once('error', (error) => reject(failureOf(error)))
      request.once('response', (answer) => {
        clearTimeout(timer)
        resolve(answer)
      })
      incoming.once('aborted', () => request.destroy())
      incoming.pipe(request)
    })
  }

  /** Passes a WebSocket (or any other upgrade) on: the handshake, then bytes both ways. */
  async upgrade(call: ProxyCall, incoming: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    await this.#held(call, async (socket) => {
      const { upgrade = 'websocket' } = incoming.headers
      socket.write(requestHead(incoming, call.address.target, { ...requestHeaders(incoming, call), connection: 'Upgrade', upgrade }))
      if (head.length > 0) socket.write(head)
      // Whatever the program answers, the client gets to the letter: a refusal as well as a handshake.
      await Promise.all([pipeline(client, socket), pipeline(socket, client)]).catch(() => {
        client.destroy()
        socket.destroy()
      })
    })
  }

  async #held(call: ProxyCall, work: (socket: Duplex) => Promise<void>): Promise<void> {
    const { guests, lifecycle, activity, answerDeadlineMs } = this.#parts
    assertExposed(call.sandbox, call.address.port)
    const guest = guests.of(await lifecycle.awake(call.sandbox))
    const release = activity.hold(call.sandbox.id)
    try {
      const socket = await guest.connect(call.address.port, AbortSignal.timeout(answerDeadlineMs))
      try {
        await work(socket)
      } finally {
        socket.destroy()
      }
    } finally {
      await release()
    }
  }
}

function requestHead(incoming: IncomingMessage, target: string, headers: OutgoingHttpHeaders): string {
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().map((one) => `${name}: ${one}`),
  )
  return `${incoming.method ?? 'GET'} ${target} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`
}
