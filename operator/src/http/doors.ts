// The doors that are not in the route table: ports of sandboxes, by path or host name, and every upgrade.
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { Failure, portProxyPaths, terminalProtocol, terminalRoutes } from '@atoll/protocol'
import type { Logger } from 'pino'
import { type Auth, isOurs } from '../auth/auth.ts'
import { authorize, type Caller } from '../auth/caller.ts'
import type { Activity } from '../sandboxes/activity.ts'
import type { Guests } from '../sandboxes/guests.ts'
import type { Lifecycle } from '../sandboxes/lifecycle.ts'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import type { Store } from '../sandboxes/store.ts'
import type { SecureReader } from './client-address.ts'
import { assertFence, type FenceParts } from './fence.ts'
import type { RateLimits } from './limits.ts'
import { findSandbox, untilAnswered } from './mount.ts'
import type { PortProxy, ProxyCall } from './port-proxy.ts'
import { type Previews, previewCookie, previewParameter } from './preview.ts'
import { type ProxyAddress, proxyAddress } from './proxy-address.ts'
import { refuseUpgrade } from './raw-refusal.ts'
import type { Shares } from './shares.ts'
import type { Trace, Trail } from './trail.ts'

export interface DoorParts {
  readonly auth: Auth
  readonly lifecycle: Lifecycle
  readonly store: Store
  readonly guests: Guests
  readonly activity: Activity
  readonly limits: RateLimits
  readonly shares: Shares
  readonly trail: Trail
  readonly previews: Previews
  readonly proxy: PortProxy
  readonly fence: () => FenceParts
  readonly isSecure: SecureReader
  readonly previewDomain: () => string | undefined
  readonly log: Logger
}

interface Traced {
  readonly incoming: IncomingMessage
  readonly trace: Trace
}

type Entry = {
  readonly sandbox: SandboxRecord
  readonly token?: { readonly value: string; readonly expiresAt: number }
}

/** Every one of that name: a page below the same domain can set one that comes first. */
const cookiesOf = (header: string | undefined): string[] =>
  (header ?? '')
    .split(';')
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(`${previewCookie}=`))
    .map((pair) => pair.slice(previewCookie.length + 1))

/**
 * A browser sends a cookie whoever made the request. The pages of all sandboxes may be of one site, so that SameSite does not tell them
 * apart: only the port's own pages, and links to it, may use what the cookie opens. Pages under the operator's own path have no origin.
 */
function assertOwnPage({ headers }: IncomingMessage, via: ProxyAddress['via']): void {
  const { origin, host = '', 'sec-fetch-site': site, 'sec-fetch-mode': mode } = headers
  const isOwn = origin === undefined || (via === 'path' && origin === 'null') || nameOf(origin.replace(/^https?:\/\//, '')) === nameOf(host)
  const isForeign = (site === 'same-site' || site === 'cross-site') && mode !== 'navigate'
  if (isOwn && (!isForeign || via === 'path')) return
  throw new Failure('request.host_refused', 'Pages of another origin may not use a preview link that was opened in this browser.')
}

const nameOf = (host: string): string => host.replace(/:\d+$/, '').toLowerCase()

/** The target without the preview token, and the token. */
function takeToken(target: string): { target: string; token: string | undefined } {
  const [path = '', ...rest] = target.split('?')
  const parameters = rest.join('?').split('&')
  const own = parameters.find((pair) => pair.startsWith(`${previewParameter}=`))
  if (own === undefined) return { target, token: undefined }
  const kept = parameters.filter((pair) => pair !== own).join('&')
  return { target: kept === '' ? path : `${path}?${kept}`, token: own.slice(previewParameter.length + 1) }
}

const terminalSocket = new RegExp(
  `^${terminalRoutes.socket.path.replace('{id}', '(?<id>[^/?]+)').replace('{sid}', '(?<sid>[^/?]+)')}(?<query>\\?.*)?$`,
)
const onlyTerminalSocket = new RegExp(terminalSocket.source.replace('sandboxes\\/(?<id>[^/?]+)', 'sandbox'))

export class Doors {
  readonly #parts: DoorParts

  constructor(parts: DoorParts) {
    this.#parts = parts
  }

  /** Undefined when the request is not for a port. @throws Failure `port.invalid`, `port.bad_path` */
  addressOf(incoming: IncomingMessage): ProxyAddress | undefined {
    return proxyAddress(incoming.url ?? '/', incoming.headers.host, this.#parts.previewDomain())
  }

  /** Whether it is for a port, well written or not. */
  isForPort(incoming: IncomingMessage): boolean {
    try {
      return this.addressOf(incoming) !== undefined
    } catch {
      return true // The upgrade is refused with the reason.
    }
  }

  /** Answers a request for a port. */
  async request(address: ProxyAddress, requestId: string, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { target, token } = takeToken(address.target)
    const entry = await this.#enterTraced({ ...address, target }, token, incoming)
    if (entry.token) return setCookieAndReload(entry.token, { ...address, target }, this.#parts.isSecure(incoming), { incoming, outgoing })
    untilAnswered(outgoing, this.#parts.shares.enter(entry.sandbox.owner))
    await this.#parts.proxy.request(this.#call(entry, { ...address, target }, requestId, incoming), incoming, outgoing)
  }

  /** Answers an upgrade: a port's WebSocket, or a terminal's. Writes failures itself. */
  async upgrade(requestId: string, incoming: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    const log = this.#parts.log.child({ requestId })
    client.on('error', (error) => log.debug({ err: error }, 'upgraded connection broke'))
    try {
      const address = this.addressOf(incoming)
      this.#assertFence(incoming, address)
      if (address) {
        const { target, token } = takeToken(address.target)
        const entry = await this.#enterTraced(address, token, incoming)
        await this.#parts.proxy.upgrade(this.#call(entry, { ...address, target }, requestId, incoming), incoming, client, head)
      } else await this.#terminal(incoming, client, head)
    } catch (error) {
      refuseUpgrade(client, error, log)
    }
  }

  #assertFence(incoming: IncomingMessage, address: ProxyAddress | undefined): void {
    try {
      assertFence(this.#parts.fence(), incoming, address)
    } catch (error) {
      this.#parts.trail.of({ method: 'GET', path: '/' }, incoming).failed(error)
      throw error
    }
  }

  #call(entry: Entry, address: ProxyAddress, requestId: string, incoming: IncomingMessage): ProxyCall {
    return {
      sandbox: entry.sandbox,
      address,
      requestId,
      clientAddress: this.#parts.limits.clientOf(incoming),
      isSecure: this.#parts.isSecure(incoming),
    }
  }

  /** What a program behind a port gets is not told, but who was not let through to it. */
  async #enterTraced(address: ProxyAddress, token: string | undefined, incoming: IncomingMessage): Promise<Entry> {
    const trace = this.#parts.trail.of({ method: 'GET', path: portProxyPaths[0] }, incoming)
    try {
      return await this.#enter(address, token, { incoming, trace })
    } catch (error) {
      trace.failed(error, address.sandboxId)
      throw error
    }
  }

  /** Who may use the port: the holder of a preview token, or the owner with a credential. */
  async #enter(address: ProxyAddress, token: string | undefined, { incoming, trace }: Traced): Promise<Entry> {
    const { lifecycle, limits, previews } = this.#parts
    const { authorization, cookie, 'x-api-key': apiKey } = incoming.headers
    const hasCredential = isOurs.authorization(authorization) || isOurs.apiKey(apiKey)
    const shown = token === undefined ? cookiesOf(cookie) : [token]
    if (shown.length > 0 && address.sandboxId !== undefined && (token !== undefined || !hasCredential || address.via === 'host')) {
      limits.countProxied(incoming, undefined)
      if (token === undefined) assertOwnPage(incoming, address.via)
      const { expiresAt } = previews.verify(shown, address.sandboxId, address.port)
      const sandbox = await lifecycle.get(undefined, address.sandboxId)
      return { sandbox, ...(token !== undefined && { token: { value: token, expiresAt } }) }
    }
    const caller = await this.#identify(incoming)
    trace.isBy(caller)
    limits.countProxied(incoming, caller)
    authorize(caller, 'write')
    return { sandbox: await findSandbox(this.#parts, caller, address.sandboxId) }
  }

  /** A wrong credential counts too, so that guessing is as limited as asking. */
  #identify(incoming: IncomingMessage, headers: IncomingHttpHeaders = incoming.headers): Promise<Caller> {
    const { auth, limits } = this.#parts
    return auth.identify(headers).catch((error: unknown) => {
      limits.countProxied(incoming, undefined)
      throw error
    })
  }

  async #terminal(incoming: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    const { guests, lifecycle, activity } = this.#parts
    const url = incoming.url ?? '/'
    const found = terminalSocket.exec(url)?.groups ?? onlyTerminalSocket.exec(url)?.groups
    const sid = found?.['sid']
    if (sid === undefined) throw new Failure('route.not_found', 'Nothing can be upgraded on this path.')
    const trace = this.#parts.trail.of(terminalRoutes.socket, incoming)
    const { protocols, sandbox } = await this.#terminalFor({ incoming, trace }, found?.['id']).catch((error: unknown) => {
      trace.failed(error, found?.['id'])
      throw error
    })
    const release = activity.hold(sandbox.id)
    try {
      const { socket, headers } = await guests
        .of(await lifecycle.awake(sandbox))
        .upgrade(`/terminals/${sid}/socket${found?.['query'] ?? ''}`, handshakeOf(incoming, protocols))
      await trace.done({ sid })
      client.write(handshakeAnswer(headers))
      if (head.length > 0) socket.write(head)
      await joined(client, socket)
    } finally {
      await release()
    }
  }

  async #terminalFor({ incoming, trace }: Traced, id: string | undefined) {
    const { protocols, credential } = offered(incoming)
    const { authorization = credential && `Bearer ${credential}` } = incoming.headers
    const caller = await this.#identify(incoming, { ...incoming.headers, authorization })
    trace.isBy(caller)
    this.#parts.limits.count(terminalRoutes.socket, incoming, caller)
    authorize(caller, 'write')
    const sandbox = await findSandbox(this.#parts, caller, id)
    trace.isAbout(sandbox)
    return { protocols, sandbox }
  }
}

/** Passes bytes both ways until one side ends; then ends the other. */
function joined(client: Duplex, socket: Duplex): Promise<void> {
  client.pipe(socket).pipe(client)
  return new Promise((resolve) => {
    const end = (): void => {
      client.destroy()
      socket.destroy()
      resolve()
    }
    for (const side of [client, socket]) {
      side.once('close', end)
      side.once('error', end)
    }
  })
}

/** The WebSocket protocols that a client offers, and the credential among them. */
function offered({ headers }: IncomingMessage): { protocols: readonly string[]; credential: string | undefined } {
  const all = (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
  const isCredential = (name: string): boolean => name.startsWith(terminalProtocol.credential)
  return {
    protocols: all.filter((name) => name !== '' && !isCredential(name)),
    credential: all.find(isCredential)?.slice(terminalProtocol.credential.length),
  }
}

function handshakeOf({ headers }: IncomingMessage, protocols: readonly string[]): Record<string, string> {
  const names = ['sec-websocket-key', 'sec-websocket-version', 'sec-websocket-extensions']
  const own = names.flatMap((name) => (typeof headers[name] === 'string' ? [[name, headers[name]]] : []))
  const protocol = protocols.length > 0 && { 'sec-websocket-protocol': protocols.join(', ') }
  return { connection: 'Upgrade', upgrade: 'websocket', ...Object.fromEntries(own), ...protocol }
}

function handshakeAnswer(headers: Readonly<Record<string, string | undefined>>): string {
  const names = ['connection', 'upgrade', 'sec-websocket-accept', 'sec-websocket-extensions', 'sec-websocket-protocol']
  const lines = names.flatMap((name) => (headers[name] === undefined ? [] : [`${name}: ${headers[name]}`]))
  return `HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`
}

/** The token moves from the address, which lands in histories and Referer headers, into a cookie of this port alone. */
function setCookieAndReload(
  token: { value: string; expiresAt: number },
  address: ProxyAddress,
  isSecure: boolean,
  { incoming, outgoing }: { incoming: IncomingMessage; outgoing: ServerResponse },
): void {
  const secure = isSecure ? '; Secure' : ''
  const expires = new Date(token.expiresAt * 1000).toUTCString()
  const path = address.via === 'host' ? address.target : `${address.base.slice(0, -1)}${address.target}`
  outgoing.writeHead(302, {
    location: path,
    'set-cookie': `${previewCookie}=${token.value}; Path=${address.base}; Expires=${expires}; HttpOnly; SameSite=Lax${secure}`,
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-store',
  })
  outgoing.end()
  incoming.resume()
}
