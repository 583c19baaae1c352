// Requests that are looked into, one by one: each is asked of the policy that holds when it comes.
import type http from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { Failure } from '@atoll/protocol'
import { textOf } from '../addresses.ts'
import type { Caller } from '../caller.ts'
import { endToEnd, valuesOf, withValues } from '../headers.ts'
import type { Connections } from './connections.ts'
import { type Denial, type Denials, denialHeaders, denialReason, denialText, denyOn } from './denials.ts'
import { forwardRequest, forwardUpgrade } from './forward.ts'
import type { EgressPolicies } from './policies.ts'
import { type AskedRequest, type Connection, secretsFor, verdictOnRequest } from './policy.ts'

/** Where requests of a sandbox go. */
export interface Site {
  readonly caller: Caller
  readonly connection: Connection
  readonly agent: http.Agent
}

export interface ExchangesParts {
  readonly policies: EgressPolicies
  readonly denials: Denials
  readonly connections: Connections
}

/** What is known of a request before anything of it is passed on. */
export interface Asked {
  readonly method: string
  readonly path: string
  /** Every host that it names. */
  readonly hosts: readonly string[]
}

export class Exchanges {
  readonly #parts: ExchangesParts

  constructor(parts: ExchangesParts) {
    this.#parts = parts
  }

  /** @throws Failure when where it goes does not answer */
  async request(site: Site, request: IncomingMessage, response: ServerResponse, path = request.url ?? ''): Promise<void> {
    const asked = askedOf(request, path)
    const denied = await this.check(site, asked)
    if (denied) return deny(response, denied)
    const done = this.follow(site, asked, () => response.destroy())
    try {
      const name = textOf(site.connection)
      await forwardRequest(request, response, { agent: site.agent, name, path, headers: await this.#headersOf(site, asked, request) })
    } catch (error) {
      const late = this.lateDenial(site, asked, error)
      if (!late) throw error
      deny(response, late)
    } finally {
      done()
    }
  }

  /** @throws Failure when where it goes does not answer */
  async upgrade(site: Site, request: IncomingMessage, socket: Duplex, head: Buffer, path = request.url ?? ''): Promise<void> {
    const asked = askedOf(request, path)
    const denied = await this.check(site, asked)
    if (denied) return denyOn(socket, denied)
    socket.once(
      'close',
      this.follow(site, asked, () => socket.destroy()),
    )
    try {
      const name = textOf(site.connection)
      await forwardUpgrade(request, socket, head, { agent: site.agent, name, path, headers: await this.#headersOf(site, asked, request) })
    } catch (error) {
      const late = this.lateDenial(site, asked, error)
      if (!late) throw error
      denyOn(socket, late)
    }
  }

  /** What denies a request, which the owner has been told of; undefined: nothing does. */
  async check({ caller, connection }: Site, { method, path, hosts }: Asked): Promise<Denial | undefined> {
    const facts = { host: connection.host, port: connection.port, method, path }
    if (!namesOnly(connection, hosts)) return this.#told(caller, { ...facts, denial: 'host_mismatch' })
    if (!/^\/[\x21-\x7e]*$/.test(path) && !(path === '*' && method === 'OPTIONS')) {
      return this.#told(caller, { ...facts, path: '', denial: 'bad_target' })
    }
    const verdict = verdictOnRequest(await this.#parts.policies.of(caller.sandboxId), { ...connection, method, path })
    return verdict.kind === 'denied' ? this.#told(caller, { ...facts, denial: verdict.denial, allow: verdict.allow }) : undefined
  }

  async #headersOf(site: Site, asked: Asked, { rawHeaders }: IncomingMessage): Promise<string[]> {
    return withValues(endToEnd(rawHeaders), await this.secrets(site, asked))
  }

  /** What is put into a request, by the names of headers. */
  async secrets({ caller, connection }: Site, { method, path }: Asked): Promise<Map<string, string>> {
    return secretsFor(await this.#parts.policies.of(caller.sandboxId), { ...connection, method, path })
  }

  /** Ends a request when the policy does not allow it any more, or the sandbox is gone. Answers what is called when it is over. */
  follow({ caller, connection }: Site, { method, path }: Asked, end: () => void): () => void {
    const asked: AskedRequest = { ...connection, method, path }
    return this.#parts.connections.add(caller.sandboxId, {
      isAllowed: (policy) => verdictOnRequest(policy, asked).kind !== 'denied',
      outlawed: () => this.#told(caller, { host: connection.host, port: connection.port, method, path, denial: 'policy_changed' }),
      end,
    })
  }

  /** What a failure to connect was, if that denies the request. */
  lateDenial({ caller, connection }: Site, { method, path }: Asked, error: unknown): Denial | undefined {
    if (!(error instanceof Failure && error.code === 'upstream.not_public')) return undefined
    return this.#told(caller, { host: connection.host, port: connection.port, method, path, denial: 'private_address' })
  }

  #told(caller: Caller, denial: Denial): Denial {
    this.#parts.denials.tell(caller, denial)
    return denial
  }
}

const askedOf = ({ method = '', rawHeaders }: IncomingMessage, path: string): Asked => ({
  method,
  path,
  hosts: valuesOf(rawHeaders, 'host'),
})

/** Whether a request names the host of its connection, and no other. */
function namesOnly(connection: Connection, hosts: readonly string[]): boolean {
  const full = textOf(connection)
  const usual = connection.port === (connection.isTls ? 443 : 80) ? full.slice(0, full.lastIndexOf(':')) : full
  return hosts.length === 1 && hosts.every((host) => [full, usual].includes(host.toLowerCase()))
}

/** What is left of the request is not read. */
export function deny(response: ServerResponse, denial: Denial): void {
  if (response.headersSent || response.destroyed) return void response.destroy()
  const text = denialText(denial)
  response.sendDate = false
  response.writeHead(403, denialReason, { ...denialHeaders(denial.denial, text), connection: 'close' })
  response.end(text)
}
