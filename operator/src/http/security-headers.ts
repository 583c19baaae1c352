// Headers and checks that keep browsers from being used against the operator.

/** On every answer, over whatever a program behind a port says. */
export const securityHeaders = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'cache-control': 'no-store',
  'strict-transport-security': 'max-age=63072000; includeSubDomains',
} as const

const localOrigins = ['localhost', '127.0.0.1'].flatMap((host) => [1338, 3000, 5173].map((port) => `http://${host}:${port}`))

/** Which origins the pages may have that call the operator. */
export type CorsRule = { readonly kind: 'any' } | { readonly kind: 'listed'; readonly origins: ReadonlySet<string> }

/** Reads `CORS_ALLOWED_ORIGINS`: a comma list, `*`, `none` (only `http://localhost`), or empty (local development servers). */
export function corsRule(setting: string): CorsRule {
  const text = setting.trim()
  if (text === '*') return { kind: 'any' }
  if (text === '') return { kind: 'listed', origins: new Set(localOrigins) }
  if (text.toLowerCase() === 'none') return { kind: 'listed', origins: new Set(['http://localhost']) }
  const origins = text.split(',').map((origin) => origin.trim().replace(/\/$/, ''))
  return { kind: 'listed', origins: new Set(origins.filter((origin) => origin !== '')) }
}

const isCorsOrigin = (origin: string, rule: CorsRule): boolean => rule.kind === 'any' || rule.origins.has(origin)

/** CORS headers of an answer; a preflight request gets `preflightHeaders` too. */
export function corsHeaders(origin: string | undefined, rule: CorsRule): Record<string, string> {
  if (rule.kind === 'any') return { 'access-control-allow-origin': '*', 'access-control-expose-headers': exposed }
  // Caches must not give one origin's answer to another.
  if (origin === undefined || !isCorsOrigin(origin, rule)) return { vary: 'origin' }
  return {
    vary: 'origin',
    'access-control-allow-origin': origin,
    'access-control-allow-credentials': 'true',
    'access-control-expose-headers': exposed,
  }
}

const exposed = 'x-request-id, retry-after, last-event-id'

export const preflightHeaders = {
  'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS',
  'access-control-allow-headers': 'authorization, content-type, accept, idempotency-key, last-event-id, x-api-key, range',
  'access-control-max-age': '600',
} as const

/** Names that a loopback address is called by. */
export const loopbackHosts = ['localhost', '*.localhost', '127.0.0.1', '[::1]'] as const

/**
 * Whether a `Host` header names one of the hosts, whatever the port. A page whose name was made to point here carries its own name, which
 * is not in the list. `*.name` stands for every name below it.
 */
export function isAllowedHost(host: string | undefined, allowed: readonly string[]): boolean {
  const name = hostName(host ?? '')
  if (name === undefined) return false
  return allowed.some((entry) => {
    const wanted = entry.toLowerCase()
    return wanted.startsWith('*.') ? name.endsWith(wanted.slice(1)) && name.length > wanted.length - 1 : name === hostName(wanted)
  })
}

/**
 * Whether an `Origin` header is the operator's own, or one that CORS lets in. Programs send none. Entries with `*.` do not count: below
 * such names stand the pages of sandboxes, which nobody vouches for.
 */
export function isAllowedOrigin(origin: string | undefined, { hosts, cors }: { hosts: readonly string[]; cors: CorsRule }): boolean {
  if (origin === undefined || isCorsOrigin(origin, cors)) return true
  const [, host] = /^https?:\/\/([^/]+)$/i.exec(origin) ?? []
  const own = hosts.filter((name) => !name.startsWith('*.'))
  return isAllowedHost(host, own)
}

/** Lower-case name without port and final dot; undefined when it is no host. */
function hostName(host: string): string | undefined {
  const [, name] = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+?)\.?(?::\d{1,5})?$/.exec(host.toLowerCase()) ?? []
  return name
}
