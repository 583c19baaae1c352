// Calls routes of the protocol over HTTP: one request, its failure, and when it may be sent again.
import { Failure, type Route, type RouteInput, type RouteOutput, routePath } from '@atoll/protocol'
import { ConnectionFailure } from './connection-failure.ts'
import { refusalOf } from './refusal.ts'
import { sleep } from './sleep.ts'

export type Fetch = typeof globalThis.fetch

/** The parts of a call, as far as they do not depend on the route. */
interface Parts {
  readonly params?: Readonly<Record<string, string>>
  readonly query?: Readonly<Record<string, unknown>>
  readonly body?: unknown
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined
  readonly headers?: Readonly<Record<string, string>>
  /** Raw body of an upload route. */
  readonly upload?: BodyInit
  /** Whether the call may be sent again when its answer was lost. GET, PUT and DELETE may unless this says otherwise. */
  readonly isRepeatable?: boolean
}

const maxAttempts = 5
/** A wait that the operator asks for and that is longer than this is the caller's to decide. */
const maxWaitMs = 30_000

export class Connection {
  readonly url: string
  readonly #apiKey: string | undefined
  readonly #fetch: Fetch

  constructor(parts: { url: string; apiKey: string | undefined; fetch: Fetch }) {
    this.url = parts.url
    this.#apiKey = parts.apiKey
    this.#fetch = parts.fetch
  }

  /** @throws Failure what the operator refuses; ConnectionFailure when no whole answer came */
  call<R extends Route>(route: R, input: RouteInput<R> & Parts, options: CallOptions = {}): Promise<RouteOutput<R>> {
    return this.#patiently(route, options, async () => this.#parse(route, await this.#ask(route, input, options)))
  }

  /** The answer itself, for routes that stream. @throws as `call` */
  open<R extends Route>(route: R, input: RouteInput<R> & Parts, options: CallOptions = {}): Promise<Response> {
    return this.#patiently(route, options, () => this.#ask(route, input, options))
  }

  /** As `open`, sent once: for a caller that has its own patience. */
  openOnce<R extends Route>(route: R, input: RouteInput<R> & Parts, options: CallOptions = {}): Promise<Response> {
    return this.#ask(route, input, options)
  }

  /** Any request under the operator's address, with the client's key. No status is a failure here. @throws ConnectionFailure */
  async fetch(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers)
    if (this.#apiKey) headers.set('x-api-key', this.#apiKey)
    return this.#guarded(init.signal ?? undefined, () => this.#fetch(`${this.url}${path}`, { ...init, headers }))
  }

  async #patiently<Answer>(route: Route, options: CallOptions, attempt: () => Promise<Answer>): Promise<Answer> {
    const isRepeatable = options.isRepeatable ?? (route.method !== 'POST' && route.method !== 'PATCH')
    for (let failures = 1; ; failures++) {
      try {
        return await attempt()
      } catch (error) {
        const waitMs = failures < maxAttempts ? waitBefore(error, failures, isRepeatable) : undefined
        if (waitMs === undefined) throw error
        await sleep(waitMs, options.signal)
      }
    }
  }

  async #ask(route: Route, { params = {}, query = {}, body }: Parts, options: CallOptions): Promise<Response> {
    const search = new URLSearchParams(
      Object.entries(query).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
    )
    const path = routePath(route.path, params)
    const init: RequestInit & { duplex: 'half' } = {
      method: route.method,
      headers: {
        ...(this.#apiKey !== undefined && { authorization: `Bearer ${this.#apiKey}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(route.upload && { 'content-type': 'application/octet-stream' }),
        ...options.headers,
      },
      body: options.upload ?? (body === undefined ? null : JSON.stringify(body)),
      signal: options.signal ?? null,
      // Needed by fetch for a body that is a stream.
      duplex: 'half',
    }
    const response = await this.#guarded(options.signal, () =>
      this.#fetch(`${this.url}${path}${search.size > 0 ? `?${search}` : ''}`, init),
    )
    if (response.ok) return response
    throw await refusalOf(response)
  }

  async #parse<R extends Route>(route: R, response: Response): Promise<RouteOutput<R>> {
    const text = await this.#guarded(undefined, () => response.text())
    try {
      // The route's own schema made it, so it is the route's output.
      return route.response?.parse(JSON.parse(text)) as RouteOutput<R>
    } catch (cause) {
      throw new Failure(
        'internal',
        `The operator at ${this.url} answered ${route.method} ${route.path} in a form that this client does not know.`,
        {
          cause,
        },
      )
    }
  }

  async #guarded<Answer>(signal: AbortSignal | undefined, work: () => Promise<Answer>): Promise<Answer> {
    try {
      return await work()
    } catch (cause) {
      if (signal?.aborted) throw signal.reason
      // An abort that came while an answer was read has no signal here, and is no broken connection.
      if (cause instanceof DOMException && cause.name === 'AbortError') throw cause
      throw new ConnectionFailure(this.url, cause)
    }
  }
}

/** Milliseconds until the call may be sent again; undefined: it may not. */
function waitBefore(error: unknown, failures: number, isRepeatable: boolean): number | undefined {
  const backOffMs = 100 * 2 ** (failures - 1)
  if (error instanceof ConnectionFailure) return isRepeatable && !error.isRefused ? backOffMs : undefined
  if (!(error instanceof Failure) || error.retryAfterMs === undefined || error.retryAfterMs > maxWaitMs) return undefined
  // Too many requests: it was refused before anything was done, so any call may be repeated.
  const wasRefused = error.code === 'request.rate_limited'
  return wasRefused || (isRepeatable && [429, 503].includes(error.status)) ? Math.max(error.retryAfterMs, backOffMs) : undefined
}
