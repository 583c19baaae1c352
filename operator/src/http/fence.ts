// What every request passes before a route sees it: Host and Origin, CORS, security headers.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Failure } from '@atoll/protocol'
import type { ProxyAddress } from './proxy-address.ts'
import { type CorsRule, corsHeaders, isAllowedHost, isAllowedOrigin, preflightHeaders, securityHeaders } from './security-headers.ts'

export interface FenceParts {
  readonly cors: CorsRule
  /** Names that the operator is called by; undefined: any, as behind a public address. */
  readonly hosts: readonly string[] | undefined
}

const setAll = (outgoing: ServerResponse, headers: Readonly<Record<string, string>>): void => {
  for (const [name, value] of Object.entries(headers)) outgoing.setHeader(name, value)
}

/** A page of another site must not use the operator through a name that it made to point here. */
function assertNames({ hosts, cors }: FenceParts, { headers }: IncomingMessage): void {
  if (!hosts) return
  if (!isAllowedHost(headers.host, hosts)) {
    throw new Failure(
      'request.host_refused',
      'The Host header is not a name of this operator. Add it to ATOLL_ALLOWED_HOSTS if it should be.',
    )
  }
  if (!isAllowedOrigin(headers.origin, { hosts, cors })) {
    throw new Failure(
      'request.host_refused',
      'Pages of this origin may not call the operator. Add it to CORS_ALLOWED_ORIGINS if they should.',
    )
  }
}

/** Host and Origin of a request or an upgrade. @throws Failure `request.host_refused` */
export function assertFence(parts: FenceParts, incoming: IncomingMessage, address: ProxyAddress | undefined): void {
  // A port with an origin of its own sets its own rules; only the name under which it is called is checked.
  if (!address || (parts.hosts && !isAllowedHost(incoming.headers.host, parts.hosts))) assertNames(parts, incoming)
}

/**
 * Sets the headers that every answer of the operator's own has. False when the request is answered already (a preflight).
 * @throws Failure `request.host_refused`
 */
export function passFence(
  parts: FenceParts,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  address: ProxyAddress | undefined,
): boolean {
  if (address) {
    assertFence(parts, incoming, address)
    return true
  }
  setAll(outgoing, securityHeaders)
  setAll(outgoing, corsHeaders(incoming.headers.origin, parts.cors))
  if (incoming.method === 'OPTIONS' && incoming.headers['access-control-request-method'] !== undefined) {
    setAll(outgoing, preflightHeaders)
    outgoing.writeHead(204).end()
    return false
  }
  assertFence(parts, incoming, address)
  return true
}
