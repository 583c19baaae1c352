import { routes, type Snapshot as SnapshotInfo } from '@atoll/protocol'
import type { Connection } from './connection.ts'

export interface SnapshotOptions {
  /** For people; its id when not given. */
  readonly name?: string | undefined
  /** Printable characters: the same key again gives the same snapshot. A fresh one when not given. */
  readonly idempotencyKey?: string | undefined
  readonly signal?: AbortSignal | undefined
}

export interface ListSnapshotsOptions {
  /** Only those of this sandbox. */
  readonly sandboxId?: string | undefined
  /** Snapshots per call, 1…500; 100 when not given. */
  readonly pageSize?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** Disks of sandboxes as they were at one moment. `sandbox.snapshot()` makes one; `sandboxes.create({ snapshot })` begins with one. */
export class Snapshots {
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** Yours, newest first; pages are fetched as the reader gets to them. */
  async *list({ sandboxId, pageSize, signal }: ListSnapshotsOptions = {}): AsyncGenerator<SnapshotInfo> {
    const filters = { ...(sandboxId !== undefined && { sandbox_id: sandboxId }), ...(pageSize !== undefined && { limit: pageSize }) }
    let cursor: string | undefined
    do {
      const query = { ...filters, ...(cursor !== undefined && { cursor }) }
      const page = await this.#connection.call(routes.snapshots.list, { query }, { signal })
      yield* page.snapshots
      cursor = page.next_cursor
    } while (cursor !== undefined)
  }

  /** @throws Failure `snapshot.not_found`, also for somebody else's */
  get(id: string): Promise<SnapshotInfo> {
    return this.#connection.call(routes.snapshots.get, { params: { sid: id } })
  }

  /** Forgets it; sandboxes made from it stay. Safe to repeat. */
  async delete(id: string): Promise<void> {
    await this.#connection.call(routes.snapshots.remove, { params: { sid: id } })
  }
}
