// Looks into a connection of a sandbox: ends its TLS with a certificate that the sandbox trusts, and begins another to the server itself.
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import tls, { type TLSSocket } from 'node:tls'
import { Failure } from '@atoll/protocol'
import { type Target, textOf } from '../addresses.ts'
import type { Caller } from '../caller.ts'
import { leavingOf, tie } from '../join.ts'
import { refusalOf, refuse, refuseSocket } from '../refusal.ts'
import type { Authorities } from './authorities.ts'
import type { Hello } from './client-hello.ts'
import type { Exchanges, Site } from './exchanges.ts'
import { agentOver } from './forward.ts'
import { serveHttp2 } from './http2.ts'

export interface InterceptionParts {
  readonly exchanges: Exchanges
  readonly authorities: Authorities
  readonly dial: (caller: Caller, target: Target, leaving: AbortSignal) => Promise<Duplex>
}

export interface Intercepted {
  readonly caller: Caller
  readonly target: Target
  readonly inside: Duplex
  /** Connected, and nothing was said on it. */
  readonly outside: Duplex
}

const handshakeMs = 20_000
const headersMs = 15_000
const spoken = ['h2', 'http/1.1']

export class Interception {
  readonly #parts: InterceptionParts
  readonly #server: http.Server
  readonly #sites = new WeakMap<object, Site>()
  /** Connections on which nothing was asked for yet. */
  readonly #waiting = new WeakMap<object, NodeJS.Timeout>()

  constructor(parts: InterceptionParts) {
    this.#parts = parts
    this.#server = this.#open()
  }

  close(): void {
    this.#server.close()
  }

  /** Plain HTTP in a tunnel. */
  plain({ caller, target, inside, outside }: Intercepted): void {
    const leaving = leavingOf(inside)
    const agent = agentOver(firstThen(outside, () => this.#parts.dial(caller, target, leaving)))
    this.#serve({ caller, connection: { ...target, isTls: false }, agent }, inside)
    tie(inside, outside)
  }

  /** The server is greeted first, so that the sandbox is offered the protocol which that speaks. */
  async tls({ caller, target, inside, outside }: Intercepted, { protocols }: Hello): Promise<void> {
    const common = protocols.filter((name) => spoken.includes(name))
    const offered = common.length > 0 ? common : ['http/1.1']
    const authority = await this.#parts.authorities.of(caller.sandboxId)
    const secured = await secure(outside, target, offered).catch((error: unknown) => refusalOf(error))
    const isBroken = secured instanceof Failure
    const chosen = (!isBroken && secured.alpnProtocol) || 'http/1.1'
    const leaving = leavingOf(inside)
    const again = async (): Promise<Duplex> => secure(await this.#parts.dial(caller, target, leaving), target, ['http/1.1'])
    const agent = agentOver(isBroken ? () => Promise.reject(secured) : firstThen(secured, again))
    const site = { caller, connection: { ...target, isTls: true }, agent }
    const server = tls.createServer({
      ALPNProtocols: [chosen],
      handshakeTimeout: handshakeMs,
      SNICallback: (name, done) => done(null, authority.contextFor(name.toLowerCase())),
    })
    server.once('tlsClientError', () => inside.destroy())
    server.once('secureConnection', (greeted) => {
      greeted.on('error', () => greeted.destroy())
      if (isBroken || chosen !== 'h2') this.#serve(site, greeted)
      else serveHttp2(site, greeted, secured, this.#parts.exchanges)
    })
    server.emit('connection', inside)
    inside.once('close', () => outside.destroy())
    if (inside.destroyed) outside.destroy()
  }

  #serve(site: Site, socket: Duplex): void {
    this.#sites.set(socket, site)
    // A server that does not listen looks at no clock itself.
    const late = setTimeout(() => socket.destroy(), headersMs)
    this.#waiting.set(socket, late)
    socket.once('close', () => {
      clearTimeout(late)
      site.agent.destroy()
    })
    this.#server.emit('connection', socket)
  }

  #siteOf(socket: object): Site | undefined {
    clearTimeout(this.#waiting.get(socket))
    return this.#sites.get(socket)
  }

  #open(): http.Server {
    const { exchanges } = this.#parts
    const server = http.createServer({ maxHeaderSize: 64 * 1024, requestTimeout: 0, keepAliveTimeout: 75_000 })
    const answer = (request: IncomingMessage, response: ServerResponse): void => {
      response.sendDate = false
      request.on('error', () => response.destroy())
      const site = this.#siteOf(request.socket)
      if (!site) return void response.destroy()
      exchanges.request(site, request, response).catch((error: unknown) => refuse(response, refusalOf(error)))
    }
    server.on('request', answer)
    server.on('checkContinue', answer)
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      const site = this.#siteOf(socket)
      socket.on('error', () => socket.destroy())
      if (!site) return void socket.destroy()
      exchanges.upgrade(site, request, socket, head).catch((error: unknown) => refuseSocket(socket, refusalOf(error)))
    })
    server.on('connect', (_: IncomingMessage, socket: Duplex) => {
      refuseSocket(socket, new Failure('request.invalid', 'A tunnel cannot be opened in a tunnel.'))
    })
    server.on('clientError', (_: Error, socket: Duplex) => {
      if (socket.writable) refuseSocket(socket, new Failure('request.invalid', 'This is not a well-formed HTTP/1.1 request.'))
      else socket.destroy()
    })
    return server
  }
}

/** The first time what is there already, then new ones. */
function firstThen(first: Duplex, again: () => Promise<Duplex>): () => Promise<Duplex> {
  let isTaken = false
  return () => {
    if (isTaken || first.destroyed) return again()
    isTaken = true
    return Promise.resolve(first)
  }
}

/** @throws Failure `upstream.unreachable` when the server cannot show that it is the one, or does not answer */
function secure(socket: Duplex, target: Target, protocols: readonly string[]): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const secured = tls.connect({ socket, servername: target.host, ALPNProtocols: [...protocols] })
    const late = setTimeout(() => secured.destroy(new Error('no TLS handshake in time')), handshakeMs)
    const fail = (cause: Error): void => {
      clearTimeout(late)
      socket.destroy()
      const said = `TLS with ${textOf(target)} cannot be begun: ${cause.message.slice(0, 200)}`
      reject(new Failure('upstream.unreachable', said, { cause }))
    }
    const closed = (): void => fail(new Error('the connection was closed'))
    secured.once('error', fail)
    secured.once('close', closed)
    secured.once('secureConnect', () => {
      clearTimeout(late)
      secured.off('error', fail)
      secured.off('close', closed)
      secured.on('error', () => secured.destroy())
      resolve(secured)
    })
  })
}
