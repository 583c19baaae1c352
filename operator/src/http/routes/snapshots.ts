import type { snapshotRoutes } from '@atoll/protocol'
import type { Snapshots } from '../../sandboxes/snapshots.ts'
import type { Handlers } from '../call.ts'
import { ownerOf } from '../mount.ts'
import { afterOf, cursorOf, idempotencyOf } from '../pages.ts'
import { snapshotView, type View } from '../view.ts'

export interface SnapshotParts {
  readonly snapshots: Snapshots
  readonly view: View
}

export const snapshotHandlers = ({ snapshots, view }: SnapshotParts): Handlers<typeof snapshotRoutes> => ({
  create: async ({ request: { body, query }, sandbox, incoming, setStatus, note }) => {
    const idempotency = idempotencyOf(incoming.headers['idempotency-key'], { sandbox: sandbox.id, ...body })
    const { snapshot, settled } = await snapshots.create(sandbox, body.name, idempotency)
    note({ detail: { snapshot: snapshot.id } })
    if (query.wait === 'true') return snapshotView(await settled, 100)
    settled.catch(() => undefined) // The record keeps the reason.
    setStatus(202)
    return snapshotView(snapshot, snapshots.percentOf(snapshot))
  },

  list: async ({ request: { query }, caller }) => {
    const filter = { owner: ownerOf(caller), sandboxId: query.sandbox_id, after: afterOf(query.cursor) }
    const found = await snapshots.list({ ...filter, limit: query.limit + 1 })
    const page = found.slice(0, query.limit)
    const last = found.length > query.limit ? page.at(-1) : undefined
    return {
      snapshots: page.map((snapshot) => snapshotView(snapshot, snapshots.percentOf(snapshot))),
      ...(last && { next_cursor: cursorOf(last) }),
    }
  },

  get: async ({ request: { params }, caller }) => {
    const snapshot = await snapshots.get(ownerOf(caller), params.sid)
    return snapshotView(snapshot, snapshots.percentOf(snapshot))
  },

  remove: async ({ request: { params }, caller, note }) => {
    const removed = await snapshots.remove(ownerOf(caller), params.sid)
    note({ subject: removed?.sandboxId ?? '', ...(removed && { owner: removed.owner }) })
    return { deleted: true, snapshot_id: params.sid }
  },

  fork: async ({ request: { body }, sandbox, note }) => {
    const { count, ...spec } = body
    const made = await snapshots.fork(sandbox, spec, count)
    note({ detail: { made: made.map(({ id }) => id) } })
    return { sandboxes: await Promise.all(made.map((record) => view.sandbox(record))) }
  },
})
