// What of a sandbox's request to a provider is passed on.
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { Failure } from '@atoll/protocol'
import { placeholderKey } from '@atoll/protocol/sidecar'
import { endToEnd, pairsOf } from './headers.ts'
import { type Credential, everyCredential, type Provider } from './providers.ts'

export interface ModelCall {
  readonly providerId: string
  /** Below the provider's base URL, with a slash at its beginning. */
  readonly path: string
  /** Without the question mark; empty when there is none. */
  readonly query: string
}

/** Two programs may read one of these as two paths, so none is passed on. */
const ambiguous = /[^\x21-\x7e]|[\\;#]|\/\/|%(2f|5c|2e|00|25)|(^|\/)\.{1,2}(\/|$)/i

/** @throws Failure `request.invalid` */
export function modelCallOf(url: string): ModelCall {
  const mark = url.indexOf('?')
  const target = mark === -1 ? url : url.slice(0, mark)
  const query = mark === -1 ? '' : url.slice(mark + 1)
  const [, first = '', path = ''] = /^\/([^/]*)(\/.*)?$/s.exec(target) ?? []
  const providerId = first.replace(/^custom%3a/i, 'custom:')
  if (path === '' || ambiguous.test(path) || /[^\x21-\x7e]|#/.test(query)) {
    throw new Failure('request.invalid', 'Ask for a plain path of a provider, as /openai/responses.')
  }
  return { providerId, path, query }
}

/** Of a line of the providers' table. */
function ruleOf(rule: string): RegExp {
  const escaped = rule.replaceAll('.', String.raw`\.`)
  return new RegExp(`^${escaped.replaceAll('**', '\0').replaceAll('*', '[^/]*').replaceAll('\0', '.*')}$`)
}

/** @throws Failure `provider.path_refused` */
export function assertAllowed(provider: Provider, method: string, path: string): void {
  const line = `${method} ${path}`
  if (provider.paths.some((rule) => ruleOf(rule).test(line))) return
  const allowed = provider.paths.join(', ')
  throw new Failure(
    'provider.path_refused',
    `${line.slice(0, 200)} may not be asked of ${provider.id} from a sandbox. What may: ${allowed}.`,
  )
}

/** Ours to say, or none of the provider's business. */
const ownHeaders = ['transfer-encoding', 'host', 'expect', 'content-length', 'cookie', 'via', 'forwarded', 'x-real-ip', 'alt-used']
const credentialHeaders = new Set(everyCredential.flatMap((one) => ('header' in one ? [one.header] : [])))
const credentialQueries = new Set([...everyCredential.flatMap((one) => ('query' in one ? [one.query] : [])), 'access_token', 'api_key'])

export interface Put {
  readonly credential: Credential
  readonly key: string
  /** Added to what the request says under the same names. */
  readonly more: Readonly<Record<string, string>>
}

/** Names and values, flat. */
export function headersFor(request: IncomingMessage, { credential, key, more }: Put): string[] {
  const kept = pairsOf(endToEnd(request.rawHeaders, [...ownHeaders, ...credentialHeaders, ...Object.keys(more)]))
    .filter(([name]) => !name.toLowerCase().startsWith('x-forwarded-'))
    .flat()
  for (const [name, value] of Object.entries(more)) kept.push(name, [request.headers[name], value].filter(Boolean).join(','))
  if (hasBody(request) && request.headers['content-length'] !== undefined) kept.push('content-length', request.headers['content-length'])
  if ('header' in credential) kept.push(credential.header, `${credential.prefix ?? ''}${key}`)
  return kept
}

/**
 * The body, for a client that destroys what it could not send: that of a request would take the connection with it, on which the refusal
 * has to go back.
 */
export const detachedBody = (request: IncomingMessage): Readable =>
  Readable.from(request.iterator({ destroyOnReturn: false }), { objectMode: false })

export const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0

const nameOf = (pair: string): string => {
  try {
    return decodeURIComponent(pair.split('=', 1)[0] ?? '').toLowerCase()
  } catch {
    return ''
  }
}

export function queryFor(query: string, credential: Credential, key: string): string {
  const kept = query.split('&').filter((pair) => pair !== '' && !credentialQueries.has(nameOf(pair)))
  if ('query' in credential) kept.push(`${credential.query}=${encodeURIComponent(key)}`)
  return kept.length === 0 ? '' : `?${kept.join('&')}`
}

const runId = new RegExp(`${placeholderKey}\\.([\\w-]{1,64})`)

/** The agent's run that a request comes from, as its placeholder says; empty when it says none. */
export function runOf(request: IncomingMessage, query: string): string {
  const carried = [...credentialHeaders].map((name) => request.headers[name]).concat(query)
  for (const value of carried) {
    const found = runId.exec(String(value ?? ''))?.[1]
    if (found) return found
  }
  return ''
}
