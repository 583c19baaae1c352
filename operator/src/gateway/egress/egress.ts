// The way of sandboxes to everything that is no model provider: as a proxy of HTTP, and by tunnels.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import type { Duplex, Readable, Writable } from 'node:stream'
import { Failure } from '@atoll/protocol'
import type { Seal } from '../../sandboxes/secrets.ts'
import { isPublicName, parseTarget, type Target, textOf } from '../addresses.ts'
import type { Caller } from '../caller.ts'
import type { DeniedEvents } from '../denied-events.ts'
import type { Dialer } from '../dial.ts'
import type { Egress as EgressPort } from '../gateway.ts'
import { valuesOf } from '../headers.ts'
import { leavingOf, tie } from '../join.ts'
import { Authorities } from './authorities.ts'
import { Connections } from './connections.ts'
import { type Denial, Denials, denyOn } from './denials.ts'
import { deny, Exchanges, type Site } from './exchanges.ts'
import { agentOver } from './forward.ts'
import { guard, readGreeting, tlsAlert } from './greeting.ts'
import { Interception } from './interception.ts'
import type { EgressPolicies } from './policies.ts'
import { type HeldPolicy, type Verdict, verdictOn } from './policy.ts'
import type { EgressStore } from './store.ts'

export interface EgressParts {
  readonly policies: EgressPolicies
  readonly store: EgressStore
  readonly seal: Seal
  readonly dialer: Dialer
  readonly denied: DeniedEvents
  readonly now: () => number
}

/** Connections that one sandbox may wait for at once. */
const maxDialling = 256

/** A tunnel that is being opened, or is open. */
interface Tunnel {
  readonly caller: Caller
  readonly target: Target
  readonly socket: Duplex
}

type Kind = 'unknown' | 'tls' | 'plain' | 'looked_into'

export class Egress implements EgressPort {
  readonly #policies: EgressPolicies
  readonly #dialer: Dialer
  readonly #denials: Denials
  readonly #connections = new Connections()
  readonly #authorities: Authorities
  readonly #exchanges: Exchanges
  readonly #interception: Interception
  /** Connections that each sandbox waits for. */
  readonly #dialling = new Map<string, number>()

  constructor(parts: EgressParts) {
    const { policies, dialer } = parts
    this.#policies = policies
    this.#dialer = dialer
    this.#denials = new Denials(parts.denied)
    this.#authorities = new Authorities(parts)
    this.#exchanges = new Exchanges({ policies, denials: this.#denials, connections: this.#connections })
    const dial = this.#dial.bind(this)
    this.#interception = new Interception({ exchanges: this.#exchanges, authorities: this.#authorities, dial })
    policies.onChange((id, policy) => this.#connections.hold(id, policy))
  }

  /** The certificate that programs of the sandbox must trust, in PEM. */
  async certificate(sandboxId: string): Promise<string> {
    return (await this.#authorities.of(sandboxId)).pem
  }

  async request(caller: Caller, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const found = absoluteTarget(request.url ?? '')
    if (!found) return deny(response, this.#told(caller, badTarget(request)))
    const site = this.#siteOf(caller, found.target, response)
    await this.#exchanges.request(site, request, response, found.path)
  }

  async upgrade(caller: Caller, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const found = absoluteTarget(request.url ?? '')
    if (!found) return denyOn(socket, this.#told(caller, badTarget(request)))
    const site = this.#siteOf(caller, found.target, socket)
    await this.#exchanges.upgrade(site, request, socket, head, found.path)
  }

  /** @param asker whose end is that of the connection, also of one that is not made yet */
  #siteOf(caller: Caller, target: Target, asker: Readable | Writable): Site {
    const leaving = leavingOf(asker)
    const agent = agentOver(() => this.#dial(caller, target, leaving))
    asker.once('close', () => agent.destroy())
    return { caller, connection: { ...target, isTls: false }, agent }
  }

  /** @throws Failure `upstream.*`; `request.busy` while the sandbox waits for too many already */
  async #dial({ sandboxId }: Caller, target: Target, leaving: AbortSignal): Promise<Duplex> {
    const waiting = this.#dialling.get(sandboxId) ?? 0
    if (waiting >= maxDialling) {
      throw new Failure('request.busy', `The sandbox waits for ${waiting} connections already. Try again in a moment.`, {
        retryAfterMs: 1000,
      })
    }
    this.#dialling.set(sandboxId, waiting + 1)
    try {
      return await this.#dialer.dial(target, leaving)
    } finally {
      const left = (this.#dialling.get(sandboxId) ?? 1) - 1
      if (left > 0) this.#dialling.set(sandboxId, left)
      else this.#dialling.delete(sandboxId)
    }
  }

  async connect(caller: Caller, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const target = connectTarget(request)
    if (!target) return denyOn(socket, this.#told(caller, badTarget(request)))
    const policy = await this.#policies.of(caller.sandboxId)
    const [secret, plain] = verdictsOn(policy, target)
    if (secret.kind === 'denied' && plain.kind === 'denied') {
      return denyOn(socket, this.#told(caller, { ...target, denial: secret.denial, allow: secret.allow }))
    }
    let kind: Kind = 'unknown'
    const over = this.#connections.add(caller.sandboxId, {
      isAllowed: (changed) => isStillAllowed(changed, target, kind),
      outlawed: () => this.#told(caller, { ...target, denial: 'policy_changed' }),
      end: () => socket.destroy(),
    })
    socket.once('close', over)
    const outside = await this.#dialled({ caller, target, socket })
    if (!outside) return
    kind = await this.#begin({ caller, target, socket }, outside, head)
    // What came while it was opened may have changed what it may be.
    if (!isStillAllowed(await this.#policies.of(caller.sandboxId), target, kind)) socket.destroy()
  }

  /** Undefined: it was denied, and said so. */
  async #dialled({ caller, target, socket }: Tunnel): Promise<Duplex | undefined> {
    try {
      return await this.#dial(caller, target, leavingOf(socket))
    } catch (error) {
      if (!(error instanceof Failure && error.code === 'upstream.not_public')) throw error
      denyOn(socket, this.#told(caller, { ...target, denial: 'private_address' }))
      return undefined
    }
  }

  /** Says that the tunnel is there, and finds out what it is for. */
  async #begin(tunnel: Tunnel, outside: Duplex, head: Buffer): Promise<Kind> {
    const { caller, target, socket } = tunnel
    socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
    if (head.length > 0) socket.unshift(head)
    const greeting = await readGreeting(socket, isIP(target.host) ? undefined : target.host)
    const [secret, plain] = verdictsOn(await this.#policies.of(caller.sandboxId), target)
    const cut = (denial: Denial, farewell?: Buffer): Kind => {
      outside.destroy()
      this.#told(caller, denial)
      if (farewell) socket.end(farewell, () => socket.destroy())
      else denyOn(socket, denial)
      return 'unknown'
    }
    if (greeting.kind === 'gone') {
      outside.destroy()
      socket.destroy()
      return 'unknown'
    }
    if (greeting.kind === 'denied') return cut({ ...target, denial: greeting.denial }, tlsAlert)
    if (greeting.kind === 'plain') {
      if (plain.kind === 'denied') return cut({ ...target, denial: 'not_tls' })
      socket.unshift(greeting.bytes)
      this.#interception.plain({ caller, target, inside: socket, outside })
      return 'plain'
    }
    if (secret.kind === 'denied') return cut({ ...target, denial: secret.denial, allow: secret.allow }, tlsAlert)
    if (secret.kind === 'looked_into') {
      socket.unshift(greeting.bytes)
      await this.#interception.tls({ caller, target, inside: socket, outside }, greeting.hello)
      return 'looked_into'
    }
    outside.write(greeting.bytes)
    socket.pipe(guard(greeting.reader, (denial) => cut({ ...target, denial }, tlsAlert))).pipe(outside)
    outside.pipe(socket)
    tie(socket, outside)
    tie(outside, socket)
    return 'tls'
  }

  closeSandbox(id: string): void {
    this.#connections.end(id)
    this.#policies.forget(id)
    this.#authorities.forget(id)
    this.#denials.forget(id)
  }

  close(): void {
    this.#interception.close()
  }

  #told(caller: Caller, denial: Denial): Denial {
    this.#denials.tell(caller, denial)
    return denial
  }
}

const verdictsOn = (policy: HeldPolicy, target: Target): [secret: Verdict, plain: Verdict] => [
  verdictOn(policy, { ...target, isTls: true }),
  verdictOn(policy, { ...target, isTls: false }),
]

/** A tunnel that is looked into goes on with rules for requests, and each request is asked for; one that is not needs leave for all of it. */
function isStillAllowed(policy: HeldPolicy, target: Target, kind: Kind): boolean {
  const [secret, plain] = verdictsOn(policy, target)
  if (kind === 'tls') return secret.kind === 'passed'
  if (kind === 'looked_into') return secret.kind !== 'denied'
  if (kind === 'plain') return plain.kind !== 'denied'
  return secret.kind !== 'denied' || plain.kind !== 'denied'
}

const isTarget = ({ host }: Target): boolean => isIP(host) !== 0 || isPublicName(host)

/** `host:port` that the request's Host, if it has one, does not contradict. */
function connectTarget({ url = '', rawHeaders }: IncomingMessage): Target | undefined {
  const target = parseTarget(url)
  if (!target || !isTarget(target)) return undefined
  const full = textOf(target)
  const names = [full, full.slice(0, full.lastIndexOf(':'))]
  return valuesOf(rawHeaders, 'host').every((host) => names.includes(host.toLowerCase())) ? target : undefined
}

/** `http://host:port/path`, without anything that some read in another way. */
function absoluteTarget(url: string): { target: Target; path: string } | undefined {
  const [, authority = '', rest = ''] = /^http:\/\/([^/?#\\@]+)([/?][\x21-\x7e]*)?$/i.exec(url) ?? []
  const target = parseTarget(authority, 80)
  if (!target || !isTarget(target) || rest.includes('#')) return undefined
  return { target, path: rest.startsWith('/') ? rest : `/${rest}` }
}

/** As much of the address as can be shown. */
function badTarget({ url = '', method }: IncomingMessage): Denial {
  return { denial: 'bad_target', host: url, method: method === 'CONNECT' ? undefined : method }
}
