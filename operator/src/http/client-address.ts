// Where a request comes from, as far as it can be known: `X-Forwarded-For` is believed only from proxies that were named.
import type { IncomingHttpHeaders } from 'node:http'
import { BlockList, isIP } from 'node:net'
import { Failure } from '@atoll/protocol'

/** The parts of a request that say where it comes from. */
export interface Incoming {
  readonly socket: { readonly remoteAddress?: string | undefined }
  readonly headers: IncomingHttpHeaders
}

export type AddressReader = (incoming: Incoming) => string

/** Whether the client's side of a request was encrypted, as far as it can be known. */
export type SecureReader = (incoming: Incoming) => boolean

/**
 * Reads the bucket that a request is counted in: an IPv4 address, the /64 network of an IPv6 address (one customer has at least that
 * many addresses), or a name of its own for a connection without an address.
 * @param trustedProxies addresses and networks, such as `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`
 * @throws Failure `config.invalid`
 */
export function clientAddressReader(trustedProxies: readonly string[]): AddressReader {
  const trusted = trustedList(trustedProxies)
  const isTrusted = (address: string): boolean => trusted.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
  const nameless = new WeakMap<object, string>()
  let connections = 0
  return ({ socket, headers }) => {
    const peer = plainAddress(socket.remoteAddress ?? '')
    if (peer === undefined) {
      const known = nameless.get(socket)
      if (known) return known
      connections += 1
      const name = `connection-${connections}`
      nameless.set(socket, name)
      return name
    }
    return bucketOf(farthestKnown(peer, headers['x-forwarded-for'], isTrusted))
  }
}

/**
 * Believes `X-Forwarded-Proto` from named proxies only; of several values the one that the nearest has written.
 * @throws Failure `config.invalid`
 */
export function secureReader(trustedProxies: readonly string[]): SecureReader {
  const trusted = trustedList(trustedProxies)
  return ({ socket, headers }) => {
    const peer = plainAddress(socket.remoteAddress ?? '')
    if (peer === undefined || !trusted.check(peer, isIP(peer) === 6 ? 'ipv6' : 'ipv4')) return false
    const protocols = [headers['x-forwarded-proto'] ?? []].flat().join(',').split(',')
    return protocols.at(-1)?.trim().toLowerCase() === 'https'
  }
}

/** Walks from the peer towards the client and stops at the first hop that nobody vouches for. */
function farthestKnown(peer: string, forwarded: string | string[] | undefined, isTrusted: (address: string) => boolean): string {
  const hops = [forwarded ?? []].flat().join(',').split(',').reverse()
  let known = peer
  for (const hop of hops) {
    if (!isTrusted(known)) return known
    const next = plainAddress(hop)
    // A proxy that writes no address says nothing about who stands behind it.
    if (next === undefined) return known
    known = next
  }
  return known
}

/** An address without port, brackets, quotes and zone; an IPv4 address inside IPv6 as IPv4. */
function plainAddress(text: string): string | undefined {
  const bare = text.trim().replace(/^"(.*)"$/, '$1')
  const [, bracketed] = /^\[([^\]]+)\](?::\d+)?$/.exec(bare) ?? []
  const address = (bracketed ?? bare.replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, '$1')).replace(/%.*$/, '')
  if (isIP(address) === 0) return undefined
  return isIP(address) === 6 ? (embeddedIpv4(address) ?? address) : address
}

function embeddedIpv4(address: string): string | undefined {
  const groups = ipv6Groups(address)
  const [high = 0, low = 0] = groups.slice(6)
  if (groups.slice(0, 5).some((group) => group !== 0) || groups[5] !== 0xffff) return undefined
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.')
}

function bucketOf(address: string): string {
  if (isIP(address) === 4) return address
  const network = ipv6Groups(address).slice(0, 4)
  return `${network.map((group) => group.toString(16)).join(':')}::/64`
}

/** The eight numbers of a valid IPv6 address. */
function ipv6Groups(address: string): number[] {
  const [head = '', tail] = address.split('::')
  const before = halfGroups(head)
  if (tail === undefined) return before
  const after = halfGroups(tail)
  return [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after]
}

function halfGroups(text: string): number[] {
  const parts = text === '' ? [] : text.split(':')
  return parts.flatMap((part) => {
    if (!part.includes('.')) return [Number.parseInt(part, 16)]
    const [a = 0, b = 0, c = 0, d = 0] = part.split('.').map(Number)
    return [a * 256 + b, c * 256 + d]
  })
}

function trustedList(entries: readonly string[]): BlockList {
  const list = new BlockList()
  for (const entry of entries) {
    const [address = '', bits, ...rest] = entry.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    const most = family === 'ipv6' ? 128 : 32
    const length = bits === undefined ? most : Number(bits)
    const isValid = isIP(address) !== 0 && rest.length === 0 && /^\d{1,3}$/.test(bits ?? '0') && length <= most
    if (!isValid) {
      throw new Failure(
        'config.invalid',
        `"${entry}" is not an address or network of a trusted proxy. Write it like 10.0.0.1 or 10.0.0.0/8.`,
      )
    }
    list.addSubnet(address, length, family)
  }
  return list
}
