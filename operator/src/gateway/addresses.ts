// Which addresses are of the public internet, and which texts name a host.
import { isIPv4, isIPv6 } from 'node:net'
import os from 'node:os'
import ipaddr from 'ipaddr.js'

/** Addresses of IPv6 that have been given out lie in here; the library knows the exceptions inside. */
const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3')

/** Ranges that the library takes for usual ones. */
const alsoReserved = ['3fff::/20', '2001::/23', '2620:4f:8000::/48'].map((range) => ipaddr.IPv6.parseCIDR(range))

/** Public by their range, and a service of the cloud that the operator's machine stands in: Azure's for its virtual machines. */
const ofClouds = new Set(['168.63.129.16'])

/**
 * Whether packets to an address go to the public internet: not to this machine, its networks, or a range with a meaning of its own.
 * An IPv6 address that holds one of IPv4 never is, since where it leads depends on the network.
 */
export function isPublicAddress(text: string): boolean {
  if (isIPv4(text)) return ipaddr.IPv4.parse(text).range() === 'unicast' && !ofClouds.has(text)
  if (!isIPv6(text) || text.includes('%')) return false
  const address = ipaddr.IPv6.parse(text)
  return address.range() === 'unicast' && address.match(globalUnicast) && !alsoReserved.some((range) => address.match(range))
}

/** One spelling for every address; other texts stay as they are. */
const canonical = (text: string): string => (ipaddr.isValid(text) ? ipaddr.parse(text).toString() : text)

/** Whether an address is one of this machine's own, public or not. */
export function isOwnAddress(text: string): boolean {
  const wanted = canonical(text)
  const all = Object.values(os.networkInterfaces()).flatMap((addresses = []) => addresses.map(({ address }) => canonical(address)))
  return all.includes(wanted)
}

const label = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/
const topLabel = /^[a-z][a-z0-9-]*$/
/** Names that are resolved in no public place. */
const localSuffix = /(^|\.)(localhost|local|internal|localdomain|onion|invalid)$/

/**
 * Whether a text is a name that the public internet may know, in its only spelling: small letters, no dot at the end, IDNA as `xn--`. What
 * programs read as a number is none, in whichever base or length.
 */
export function isPublicName(text: string): boolean {
  if (text.length > 253 || localSuffix.test(text)) return false
  const labels = text.split('.')
  return labels.length >= 2 && labels.every((one) => label.test(one)) && topLabel.test(labels.at(-1) ?? '')
}

export interface Target {
  /** A name in small letters, or an address without brackets. */
  readonly host: string
  readonly port: number
}

/** `host:port`, where the port may be left out if there is a usual one. Undefined: it cannot be read in exactly one way. */
export function parseTarget(text: string, usualPort?: number): Target | undefined {
  const [, bracketed, name = '', digits] = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::([1-9]\d{0,4}))?$/i.exec(text) ?? []
  const host = (bracketed ?? name).toLowerCase()
  const port = digits === undefined ? usualPort : Number(digits)
  if (port === undefined || port > 65_535) return undefined
  const isHost = bracketed === undefined ? isIPv4(host) || /^([a-z0-9_-]+\.)*[a-z_][a-z0-9_-]*$/.test(host) : isIPv6(host)
  return isHost ? { host, port } : undefined
}

export const textOf = ({ host, port }: Target): string => `${isIPv6(host) ? `[${host}]` : host}:${port}`
