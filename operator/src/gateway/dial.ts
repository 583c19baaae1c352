// Connections to the world: a name is resolved once, every address is checked, and a checked one is dialled.
import { Resolver, lookup as systemLookup } from 'node:dns/promises'
import net, { isIP, isIPv6, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '@atoll/protocol'
import { isOwnAddress, isPublicAddress, isPublicName, parseTarget, type Target, textOf } from './addresses.ts'

const resolveDeadlineMs = 8000
const connectDeadlineMs = 15_000
/** For one of several addresses. */
const attemptMs = 1500
const maxAddresses = 16

export interface DialerParts {
  /** Servers that resolve names, as `address` or `address:port`; none: those of the machine. */
  readonly nameServers: readonly string[]
  /** What may be dialled though it is not public; from `trustedUpstreams`. */
  readonly trusted: readonly Target[]
}

/** Whether an address of a model server is one of them. */
export const trustedUrl =
  (trusted: readonly Target[]) =>
  ({ protocol, hostname, port }: URL): boolean => {
    const target = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) || (protocol === 'https:' ? 443 : 80) }
    return trusted.some((one) => one.host === target.host && one.port === target.port)
  }

export interface Dialer {
  /**
   * A connected socket that nobody reads yet.
   * @throws Failure `upstream.not_public`, `upstream.unresolved`, `upstream.unreachable`; the signal's reason
   */
  dial(target: Target, signal?: AbortSignal): Promise<Socket>
}

/** @param list `host:port` or an origin such as `http://models.lan:11434`. @throws Failure `config.invalid` */
export function trustedUpstreams(list: readonly string[]): Target[] {
  return list.map((text) => {
    const [, scheme, authority = ''] = /^(?:(https?):\/\/)?([^/?#@]+)\/?$/i.exec(text) ?? []
    const usualPort = { http: 80, https: 443 }[scheme?.toLowerCase() ?? '']
    const target = parseTarget(authority, usualPort)
    if (target) return target
    throw new Failure('config.invalid', `ATOLL_TRUSTED_UPSTREAMS: ${JSON.stringify(text)} is neither host:port nor an origin.`)
  })
}

export function createDialer({ nameServers, trusted }: DialerParts): Dialer {
  const resolve = createResolve(nameServers)
  const isTrusted = ({ host, port }: Target): boolean => trusted.some((one) => one.host === host && one.port === port)
  return {
    dial: async (target, signal) => {
      const deadline = AbortSignal.timeout(resolveDeadlineMs + connectDeadlineMs)
      const either = signal ? AbortSignal.any([signal, deadline]) : deadline
      const addresses = isTrusted(target)
        ? await resolve.trusted(target.host, either)
        : publicOnly(target, await resolve.addresses(target, either))
      return connect(target, addresses, either)
    },
  }
}

/**
 * Refuses the whole answer when one address in it is not public: no honest name has both kinds, and one that is rebound shows the private
 * one now or later.
 */
function publicOnly(target: Target, addresses: readonly string[]): readonly string[] {
  const bad = addresses.find((address) => !isPublicAddress(address) || isOwnAddress(address))
  if (bad === undefined) return addresses
  const what =
    bad === target.host ? `${bad} is not an address of the public internet` : `${target.host} leads to ${bad}, which is not public`
  throw new Failure('upstream.not_public', `${what}, so it cannot be reached from here.`)
}

const unresolved = (host: string, cause?: unknown): Failure =>
  new Failure('upstream.unresolved', `The name ${host} cannot be resolved. Check its spelling.`, { cause })

function createResolve(nameServers: readonly string[]) {
  const resolver = new Resolver({ timeout: 2000, tries: 2 })
  if (nameServers.length > 0) resolver.setServers([...nameServers])
  // The machine's list of hosts and its search domains are for its own programs, so names of the world are asked for directly.
  const ask = async (host: string): Promise<string[]> => {
    const families = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)])
    const found = families.flatMap((family) => (family.status === 'fulfilled' ? family.value : []))
    if (found.length > 0) return found.slice(0, maxAddresses)
    throw unresolved(host, families.map((family) => (family.status === 'rejected' ? family.reason : undefined)).at(0))
  }
  const addresses = async ({ host }: Target, signal: AbortSignal): Promise<string[]> => {
    if (isIP(host)) return [host]
    if (!isPublicName(host)) throw new Failure('upstream.not_public', `${host} is no name of the public internet.`)
    return within(ask(host), signal, () => unresolved(host))
  }
  const trusted = async (host: string, signal: AbortSignal): Promise<string[]> => {
    if (isIP(host)) return [host]
    if (nameServers.length > 0) return within(ask(host), signal, () => unresolved(host))
    const found = systemLookup(host, { all: true }).then((all) => all.map(({ address }) => address))
    return within(
      found.catch((error: unknown) => Promise.reject(unresolved(host, error))),
      signal,
      () => unresolved(host),
    )
  }
  return { addresses, trusted }
}

/** Name servers that say nothing are not waited for. */
async function within<Result>(work: Promise<Result>, signal: AbortSignal, late: () => Failure): Promise<Result> {
  const done = new AbortController()
  const ended = AbortSignal.any([signal, done.signal])
  const deadline = delay(resolveDeadlineMs, undefined, { signal: ended }).then(
    () => Promise.reject(late()),
    () => Promise.reject(signal.aborted ? signal.reason : late()),
  )
  try {
    return await Promise.race([work, deadline])
  } finally {
    deadline.catch(() => undefined)
    done.abort()
  }
}

/** Dials the addresses as they are given; no name is resolved a second time. */
function connect(target: Target, addresses: readonly string[], signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const all = addresses.map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }))
    const socket = net.connect({
      host: target.host,
      port: target.port,
      noDelay: true,
      allowHalfOpen: true,
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: attemptMs,
      lookup: (_, options, callback) => (options.all ? callback(null, all) : callback(null, all[0]?.address ?? '', all[0]?.family ?? 4)),
    })
    const fail = (cause: unknown): void => {
      signal.removeEventListener('abort', aborted)
      socket.destroy()
      const isOurs = signal.aborted && !(signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError')
      reject(isOurs ? signal.reason : new Failure('upstream.unreachable', `${textOf(target)} does not answer. Try again later.`, { cause }))
    }
    const aborted = (): void => fail(signal.reason)
    socket.setTimeout(connectDeadlineMs, () => fail(new Error('no connection in time')))
    socket.once('error', fail)
    signal.addEventListener('abort', aborted, { once: true })
    socket.once('connect', () => {
      signal.removeEventListener('abort', aborted)
      socket.off('error', fail)
      socket.removeAllListeners('timeout')
      socket.setTimeout(0)
      socket.on('error', () => socket.destroy())
      resolve(socket)
    })
    if (signal.aborted) aborted()
  })
}
