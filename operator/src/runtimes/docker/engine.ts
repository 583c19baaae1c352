// The container engine on its local socket: every call has a deadline, and an engine that does not answer is told apart from one that refuses.
import http from 'node:http'
import { Readable } from 'node:stream'
import { Failure } from '@atoll/protocol'
import Docker from 'dockerode'

export interface CallOptions {
  /** Of the caller: its abort is passed on as it is. */
  readonly signal?: AbortSignal
  readonly deadlineMs?: number
}

const usualDeadlineMs = 60_000

/** The path of a local socket, or undefined for an engine elsewhere. */
function localSocket(address: string): string | undefined {
  if (address.startsWith('unix://')) return address.slice('unix://'.length) || '/var/run/docker.sock'
  return address.startsWith('/') ? address : undefined
}

/** The status of a request that the engine refused; undefined for anything else. */
export const refusalStatus = (error: unknown): number | undefined =>
  error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number' ? error.statusCode : undefined

/** What the engine itself said. */
export function refusalText(error: unknown): string {
  const said = error instanceof Error && 'json' in error ? error.json : undefined
  if (typeof said === 'object' && said !== null && 'message' in said && typeof said.message === 'string') return said.message
  return error instanceof Error ? error.message : String(error)
}

/** Resolves with undefined where the engine answers one of these statuses, such as 404 for what is gone already. */
export async function accepting<T>(statuses: readonly number[], work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    const status = refusalStatus(error)
    if (status !== undefined && statuses.includes(status)) return undefined
    throw error
  }
}

/** The library promises an old kind of stream and gives a new one. */
export const asReadable = (stream: NodeJS.ReadableStream): Readable => (stream instanceof Readable ? stream : new Readable().wrap(stream))

/** Holds no connection and no state, so that an engine may restart at any time. */
export class Engine {
  readonly #address: string
  readonly #deadlineMs: number
  readonly #docker: Docker | undefined

  constructor(address: string, deadlineMs = usualDeadlineMs) {
    this.#address = address
    this.#deadlineMs = deadlineMs
    const socketPath = localSocket(address)
    // An empty host keeps the library from reading DOCKER_HOST; a new connection per call never meets one that a restart has cut.
    const options = { socketPath, host: '', agent: new http.Agent({ keepAlive: false }) }
    this.#docker = socketPath === undefined ? undefined : new Docker(options)
  }

  /** Why this engine can never be used; undefined when it can. */
  get refusal(): string | undefined {
    if (this.#docker) return undefined
    return `the engine at ${this.#address} is not local: a sandbox is reached through a unix socket of this machine. Set DOCKER_HOST to a unix:// socket.`
  }

  /**
   * One conversation with the engine.
   * @throws Failure `runtime.unavailable` when it does not answer in time, the engine's own error when it refuses (see refusalStatus)
   */
  async call<T>(work: (docker: Docker, abortSignal: AbortSignal) => Promise<T>, options: CallOptions = {}): Promise<T> {
    if (!this.#docker) throw new Failure('runtime.unavailable', this.refusal ?? '')
    options.signal?.throwIfAborted()
    const deadlineMs = options.deadlineMs ?? this.#deadlineMs
    const abort = new AbortController()
    const timer = setTimeout(() => abort.abort(new Error(`no answer in ${deadlineMs} ms`)), deadlineMs)
    const onAbort = (): void => abort.abort(options.signal?.reason)
    options.signal?.addEventListener('abort', onAbort, { once: true })
    try {
      return await Promise.race([work(this.#docker, abort.signal), aborted(abort.signal)])
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason
      if (error instanceof Failure || refusalStatus(error) !== undefined) throw error
      throw this.#silent(abort.signal.aborted ? abort.signal.reason : error)
    } finally {
      clearTimeout(timer)
      options.signal?.removeEventListener('abort', onAbort)
    }
  }

  #silent(cause: unknown): Failure {
    const why = cause instanceof Error ? cause.message : String(cause)
    const message = `The Docker engine at ${this.#address} does not answer (${why}). Start it, or set DOCKER_HOST; sandboxes are not lost.`
    return new Failure('runtime.unavailable', message, { cause, retryAfterMs: 2000 })
  }
}

/** The library leaves a call open whose answer is cut off half-way, so the deadline is also kept beside it. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}
