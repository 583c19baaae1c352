import type { IncomingMessage, ServerResponse } from 'node:http'
import { Failure } from '@atoll/protocol'

export interface Call {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  /** Aborted when the caller goes away before the answer is complete. */
  readonly signal: AbortSignal
  /** The JSON body; the operator has checked its shape. */
  json<Body>(): Promise<Body>
}

/** Answers what the caller gets as JSON, or undefined when it has written the response itself. */
export type Handler = (call: Call) => unknown

/** `METHOD /path/{name}` to what serves it. */
export type Routes = Readonly<Record<string, Handler>>

export interface Match<Served> {
  readonly handler: Served
  readonly params: Readonly<Record<string, string>>
}

const nameOf = (part: string): string | undefined => (part.startsWith('{') ? part.slice(1, -1) : undefined)

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw new Failure('route.not_found', 'The path holds a malformed escape.', { cause })
  }
}

function paramsOf(parts: readonly string[], path: readonly string[]): Record<string, string> | undefined {
  if (parts.length !== path.length) return undefined
  const params: Record<string, string> = {}
  for (const [index, part] of parts.entries()) {
    const given = path[index] ?? ''
    const name = nameOf(part)
    if (name !== undefined) params[name] = decode(given)
    else if (part !== given) return undefined
  }
  return params
}

/** @throws Failure `route.not_found`, or `route.method` when another method has the path */
export function createRouter<Served>(routes: Readonly<Record<string, Served>>): (method: string, path: string) => Match<Served> {
  const compiled = Object.entries(routes).map(([key, handler]) => {
    const [method = '', path = ''] = key.split(' ')
    return { method, parts: path.split('/'), handler }
  })
  return (method, path) => {
    const given = path.split('/')
    let isKnownPath = false
    for (const { method: served, parts, handler } of compiled) {
      const params = paramsOf(parts, given)
      if (params && served === method) return { handler, params }
      isKnownPath ||= params !== undefined
    }
    if (isKnownPath) throw new Failure('route.method', `${path} does not take ${method}.`)
    throw new Failure('route.not_found', `The sidecar has no route ${path}.`)
  }
}
