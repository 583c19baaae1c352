import { Failure, type RouteOutput, routes } from '@atoll/protocol'
import type { Connection } from './connection.ts'

/** `expires_at` is in unix seconds. */
export type PreviewLink = RouteOutput<typeof routes.ports.preview>

/** Network ports of a sandbox that were asked for when it was made. They are reached through the operator only. */
export class Ports {
  readonly #connection: Connection
  readonly #id: string

  constructor(connection: Connection, sandboxId: string) {
    this.#connection = connection
    this.#id = sandboxId
  }

  /** `ports`: those that can be reached; `listening`: those on which a program listens at this moment. */
  async list(): Promise<{ ports: number[]; listening: number[] }> {
    const { ports, listening } = await this.#connection.call(routes.ports.list, { params: { id: this.#id } })
    return { ports: Object.values(ports), listening }
  }

  /** Where a port stands on the operator. Requests to it need a credential; `preview` makes a link that does not. */
  url(port: number, path = '/'): string {
    return `${this.#connection.url}${this.#path(port, path)}`
  }

  /**
   * A link that opens the port in a browser until it expires.
   * @param options.ttlSeconds 1…604 800; an hour when not given
   * @throws Failure `port.not_exposed`
   */
  preview(port: number, options: { readonly ttlSeconds?: number } = {}): Promise<PreviewLink> {
    const body = options.ttlSeconds === undefined ? {} : { ttl_seconds: options.ttlSeconds }
    return this.#connection.call(routes.ports.preview, { params: { id: this.#id, port: String(port) }, body }, { isRepeatable: true })
  }

  /** A request to the program behind a port, with the client's credential. Whatever status comes is an answer. @throws ConnectionFailure */
  async fetch(port: number, path = '/', init: RequestInit = {}): Promise<Response> {
    return this.#connection.fetch(this.#path(port, path), init)
  }

  #path(port: number, path: string): string {
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      throw new Failure('port.invalid', `A port is a number from 1 to 65535, not ${port}.`)
    return `/api/sandboxes/${encodeURIComponent(this.#id)}/port/${port}${path.startsWith('/') ? path : `/${path}`}`
  }
}
