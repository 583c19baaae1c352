// Which port of which sandbox a request is for, by path or by host name.
import { Failure, portText } from '@atoll/protocol'

export interface ProxyAddress {
  /** Undefined: the caller's only sandbox. */
  readonly sandboxId: string | undefined
  readonly port: number
  /** Path and query for the program behind the port. */
  readonly target: string
  /** `host`: the port has an origin of its own, `path`: it shares the operator's. */
  readonly via: 'host' | 'path'
  /** The path under which the port's own root stands. */
  readonly base: string
}

const byPath = /^(?<base>\/api\/(?:sandboxes\/(?<id>[^/?]+)|sandbox)\/port\/(?<port>[^/?]*))(?<rest>[/?].*)?$/s

function parsePort(text: string): number {
  if (!portText.test(text) || Number(text) > 65_535) {
    throw new Failure('port.invalid', 'A port is written as a number from 1 to 65535, without sign or leading zero.')
  }
  return Number(text)
}

/** What may be passed on: no NUL, and no second slash that would make the path an authority. */
function parseTarget(rest: string): string {
  const target = rest === '' ? '/' : rest.startsWith('?') ? `/${rest}` : rest
  if (/%00|\0/.test(target) || target.startsWith('//')) throw new Failure('port.bad_path', 'Invalid proxy path')
  return target
}

/** `5173--sandbox-….preview.example` on the preview domain. */
function byHost(host: string, domain: string): { id: string; port: string } | undefined {
  const name = host.replace(/:\d+$/, '').toLowerCase()
  if (!name.endsWith(`.${domain}`)) return undefined
  const [, port, id] = /^(\d+)--([a-z0-9-]+)$/.exec(name.slice(0, -domain.length - 1)) ?? []
  return port !== undefined && id !== undefined ? { id, port } : undefined
}

/** Undefined when the request is not for a port. @throws Failure `port.invalid`, `port.bad_path` */
export function proxyAddress(url: string, host: string | undefined, domain: string | undefined): ProxyAddress | undefined {
  const named = host !== undefined && domain !== undefined ? byHost(host, domain) : undefined
  if (named) return { sandboxId: named.id, port: parsePort(named.port), target: parseTarget(url), via: 'host', base: '/' }
  const { base, id, port, rest } = byPath.exec(url)?.groups ?? {}
  if (base === undefined || port === undefined) return undefined
  return {
    sandboxId: id === undefined ? undefined : decode(id),
    port: parsePort(port),
    target: parseTarget(rest ?? ''),
    via: 'path',
    base: `${base}/`,
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw new Failure('port.bad_path', 'Invalid proxy path', { cause })
  }
}
