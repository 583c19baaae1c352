import { type RouteOutput, routes, type SandboxEvent, type UsageRow, type usageDimensions } from '@atoll/protocol'
import { Audit } from './audit.ts'
import { clientConfig } from './config.ts'
import { Connection, type Fetch } from './connection.ts'
import { follow } from './follow.ts'
import { Keys } from './keys.ts'
import type { EventsOptions } from './sandbox.ts'
import { Sandboxes } from './sandboxes.ts'
import { Services } from './services.ts'
import { Snapshots } from './snapshots.ts'

export interface AtollOptions {
  /** Where the operator is; the environment's `ATOLL_URL`, else `http://127.0.0.1:9090`. */
  readonly url?: string | undefined
  /** An API key or a session token; the environment's `ATOLL_API_KEY`. */
  readonly apiKey?: string | undefined
  /** Used for every request; the global `fetch` when not given. */
  readonly fetch?: Fetch | undefined
}

/** What an operator can do, from what it has probed. */
export type Capabilities = RouteOutput<typeof routes.health.capabilities>

export interface UsageOptions {
  /** What to tell apart: provider and model when not given. */
  readonly by?: readonly (typeof usageDimensions)[number][] | undefined
  readonly service?: number | undefined
  readonly sandbox?: string | undefined
  /** An agent's run. */
  readonly run?: string | undefined
  /** First and last day as `2026-01-31`, both included; UTC. */
  readonly from?: string | undefined
  readonly to?: string | undefined
}

/** A client of one operator. It holds no connection of its own, so there is nothing to close. */
export class Atoll {
  readonly url: string
  readonly sandboxes: Sandboxes
  readonly snapshots: Snapshots
  readonly keys: Keys
  readonly services: Services
  readonly audit: Audit
  readonly #connection: Connection

  constructor(options: AtollOptions = {}) {
    const { url, apiKey } = clientConfig(options)
    // Looked up at each call, so that a fetch that is replaced later counts.
    const fetch: Fetch = options.fetch ?? ((...request) => globalThis.fetch(...request))
    this.#connection = new Connection({ url, apiKey, fetch })
    this.url = url
    this.sandboxes = new Sandboxes(this.#connection)
    this.snapshots = new Snapshots(this.#connection)
    this.keys = new Keys(this.#connection)
    this.services = new Services(this.#connection)
    this.audit = new Audit(this.#connection)
  }

  /** Runtimes, harnesses and features of the operator. */
  capabilities(): Promise<Capabilities> {
    return this.#connection.call(routes.health.capabilities, {})
  }

  /** What your services and sandboxes have used of models; an admin sees what everybody has. At most 10 000 rows. */
  async usage({ by, ...filter }: UsageOptions = {}): Promise<UsageRow[]> {
    const query = { ...filter, ...(by && { by: by.join(',') }), limit: '10000' }
    return (await this.#connection.call(routes.usage.list, { query })).usage
  }

  /** What happens to all your sandboxes, from the cursor on and then live, until the reader leaves or the signal aborts. */
  async *events(options: EventsOptions = {}): AsyncGenerator<SandboxEvent> {
    for await (const { event } of follow(this.#connection, routes.events.follow, {}, options)) yield event
  }
}
