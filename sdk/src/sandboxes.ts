import { Failure, isFailureCode, type Provision, routes, type Sandbox as SandboxInfo, type SandboxStatus } from '@atoll/protocol'
import type { Connection } from './connection.ts'
import { Sandbox } from './sandbox.ts'
import { creationOf, type SandboxSpec } from './sandbox-spec.ts'
import { sleep } from './sleep.ts'

export interface CreateOptions {
  /** Printable characters: the same key again gives the same sandbox. A fresh one when not given. */
  readonly idempotencyKey?: string | undefined
  /** Called when the making gets on; the operator is then asked a few times a second. */
  readonly onProgress?: ((provision: Provision) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

export interface ListOptions {
  /** States to list; every one but `ended` when not given. */
  readonly state?: SandboxStatus | readonly SandboxStatus[] | undefined
  /** Values that the metadata must have. */
  readonly metadata?: Readonly<Record<string, string | number | boolean>> | undefined
  /** Sandboxes per call, 1…500; 100 when not given. */
  readonly pageSize?: number | undefined
  readonly signal?: AbortSignal | undefined
}

const firstLookMs = 50
const slowestLookMs = 1000

export class Sandboxes {
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /**
   * Makes a sandbox and waits until it runs. Safe over lost connections: the call is repeated under its key and makes one sandbox.
   * @throws Failure `image.*`, `runtime.*`, `capacity.*`, `sandbox.too_large`, `sandbox.start_failed`
   */
  async create(spec: SandboxSpec = {}, options: CreateOptions = {}): Promise<Sandbox> {
    const { idempotencyKey = crypto.randomUUID(), onProgress, signal } = options
    const wait = onProgress ? ('false' as const) : ('true' as const)
    const info = await this.#connection.call(
      routes.sandboxes.create,
      { query: { wait }, body: creationOf(spec) },
      { headers: { 'idempotency-key': idempotencyKey }, isRepeatable: true, signal },
    )
    return new Sandbox(this.#connection, onProgress ? await this.#observe(info, onProgress, signal) : info)
  }

  /** @throws Failure `sandbox.not_found`, also for somebody else's */
  async get(id: string): Promise<Sandbox> {
    return new Sandbox(this.#connection, await this.#connection.call(routes.sandboxes.get, { params: { id } }))
  }

  /** Your sandboxes, newest first; pages are fetched as the reader gets to them. */
  async *list({ state, metadata, pageSize, signal }: ListOptions = {}): AsyncGenerator<Sandbox> {
    const pairs = Object.entries(metadata ?? {}).map(([key, value]) => `${key}=${value}`)
    const filters = {
      ...(pageSize !== undefined && { limit: pageSize }),
      ...(state !== undefined && { state: [state].flat().join(',') }),
      ...(pairs.length > 0 && { metadata: pairs.join(',') }),
    }
    let cursor: string | undefined
    do {
      const query = { ...filters, ...(cursor !== undefined && { cursor }) }
      const page = await this.#connection.call(routes.sandboxes.list, { query }, { signal })
      for (const info of page.sandboxes) yield new Sandbox(this.#connection, info)
      cursor = page.next_cursor
    } while (cursor !== undefined)
  }

  async #observe(info: SandboxInfo, onProgress: (provision: Provision) => void, signal: AbortSignal | undefined): Promise<SandboxInfo> {
    let shown = ''
    for (let pauseMs = firstLookMs; ; pauseMs = Math.min(pauseMs * 1.5, slowestLookMs)) {
      const provision = await this.#connection.call(routes.events.provision, { params: { call_id: String(info.call_id) } }, { signal })
      const isNews = shown !== `${provision.phase} ${provision.message} ${provision.progress_pct}`
      shown = `${provision.phase} ${provision.message} ${provision.progress_pct}`
      if (isNews) onProgress(provision)
      if (provision.phase === 'ready' || provision.phase === 'failed') {
        const made = await this.#connection.call(routes.sandboxes.get, { params: { id: info.id } }, { signal })
        if (made.end) throw creationFailure(made, provision)
        return made
      }
      await sleep(pauseMs, signal)
    }
  }
}

function creationFailure({ id, end }: SandboxInfo, provision: Provision): Failure {
  const message = end?.message ?? provision.message ?? `Sandbox ${id} could not be made.`
  return new Failure(isFailureCode(end?.code) ? end.code : 'sandbox.start_failed', message)
}
