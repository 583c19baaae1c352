// What the server remembers of each request.
import type { IncomingMessage } from 'node:http'
import type { Protocol } from './conversation.ts'
import type { Usage } from './reply.ts'

export type RequestKind = Protocol | 'count_tokens' | 'models' | 'greeting' | 'upgrade' | 'unknown'

export interface Credential {
  readonly header: string
  readonly value: string
}

export interface SeenRequest {
  readonly seq: number
  readonly at: Date
  readonly method: string
  /** With the query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** Every header or parameter that says who asks. */
  readonly credentials: readonly Credential[]
  readonly userAgent: string
  readonly kind: RequestKind
  readonly model?: string
  readonly isStream?: boolean
  /** The prompt that the answer was chosen by. */
  readonly prompt?: string
  readonly step?: string
  /** How many tools had answered since the prompt. */
  readonly position?: number
  /** Whether the request had the words of `[[find:…]]`; absent when it asks for none. */
  readonly hasFound?: boolean
  /** With their namespace, if any: `namespace/name`. */
  readonly tools?: readonly string[]
  readonly call?: { readonly name: string; readonly arguments: unknown }
  /** Tokens that the answer says; absent when it says none. */
  readonly usage?: Usage
  /** Absent while nothing was answered. */
  status?: number
  /** The client, or a `drop`, ended the connection before the answer was complete. */
  closedEarly: boolean
  /** The answer is complete, or never will be. */
  isOver: boolean
}

const authorities = ['authorization', 'x-api-key', 'x-goog-api-key', 'api-key', 'cookie']

function credentialsOf({ headers }: IncomingMessage, url: URL): Credential[] {
  const found = authorities.flatMap((header) => {
    const value = headers[header]
    return value === undefined ? [] : [{ header, value: String(value) }]
  })
  const key = url.searchParams.get('key')
  return key === null ? found : [...found, { header: '?key', value: key }]
}

/** What is known before anything was read of the body. */
export function seenRequest(request: IncomingMessage, url: URL, seq: number) {
  const headers = Object.entries(request.headers).map(([name, value]) => [name, String(value)])
  return {
    seq,
    at: new Date(),
    method: request.method ?? 'GET',
    path: url.pathname + url.search,
    headers: Object.fromEntries(headers),
    credentials: credentialsOf(request, url),
    userAgent: request.headers['user-agent'] ?? '',
    closedEarly: false,
    isOver: false,
  }
}
