import type { IncomingMessage, ServerResponse } from 'node:http'
import { type eventRoutes, Failure, type healthRoutes, type Provision } from '@atoll/protocol'
import { capabilitiesOf } from '../../agents/capabilities.ts'
import type { ImageProbes } from '../../agents/image-probes.ts'
import type { Probes } from '../../sandboxes/probes.ts'
import type { ProvisionRecord, Store } from '../../sandboxes/store.ts'
import { eventStream } from '../answers.ts'
import type { Handlers } from '../call.ts'
import { ownerOf } from '../mount.ts'
import type { View } from '../view.ts'

export interface InfraParts {
  readonly probes: Probes
  readonly images: ImageProbes
  readonly store: Store
  readonly view: View
  readonly version: string
  /** Ends the streams that would go on for ever when the operator stops. */
  readonly stopping: AbortSignal
}

export function healthHandlers({ probes, images, store, version }: InfraParts): Handlers<typeof healthRoutes> {
  const storeError = (): Promise<string | undefined> =>
    store.check().then(
      () => undefined,
      () => 'the state store cannot be written',
    )
  return {
    health: async ({ setStatus }) => {
      const [runtimeError, store] = await Promise.all([probes.defaultRuntimeError(), storeError()])
      const isOk = runtimeError === undefined && store === undefined
      if (!isOk) setStatus(503)
      return {
        status: isOk ? 'ok' : 'degraded',
        checks: {
          runtime: runtimeError === undefined ? { status: 'ok' } : { status: 'error', error: runtimeError },
          store: store === undefined ? { status: 'ok' } : { status: 'error', error: store },
        },
        runtime_backend: probes.defaultRuntime,
        runtime_error: runtimeError ?? null,
        version,
      }
    },
    ready: async ({ setStatus }) => {
      const [runtimeError, store] = await Promise.all([probes.defaultRuntimeError(), storeError()])
      if (runtimeError === undefined && store === undefined) return { status: 'ready' }
      setStatus(503)
      return {
        status: 'not_ready',
        runtime_backend: probes.defaultRuntime,
        runtime: runtimeError === undefined,
        runtime_error: runtimeError ?? null,
        store: store === undefined,
      }
    },
    capabilities: async () => ({ ...capabilitiesOf(await images.known()), ...(await probes.all()) }),
  }
}

export function eventHandlers(parts: InfraParts): Handlers<typeof eventRoutes> {
  const { store, view } = parts
  const shown = async ({ owner: _owner, isPublic: _isPublic, ...provision }: ProvisionRecord): Promise<Provision> => {
    const isReady = provision.phase === 'ready' && provision.sandbox_id !== null
    return { ...provision, sidecar_url: isReady && provision.sandbox_id ? view.sidecarUrl(provision.sandbox_id) : null }
  }
  return {
    feed: ({ request: { query }, caller }) => page(store, { owner: ownerOf(caller) }, query),
    follow: ({ request: { query }, caller, incoming, outgoing, signal }) =>
      follow(parts, { owner: ownerOf(caller) }, startOf(query.cursor, incoming), { outgoing, signal }),
    sandboxFeed: ({ request: { query }, sandbox }) => page(store, { owner: sandbox.owner, sandboxId: sandbox.id }, query),
    sandboxFollow: ({ request: { query }, sandbox, incoming, outgoing, signal }) =>
      follow(parts, { owner: sandbox.owner, sandboxId: sandbox.id }, startOf(query.cursor, incoming), { outgoing, signal }),
    provisions: async ({ caller }) => {
      const records = await store.provisions(ownerOf(caller), 500)
      return { provisions: await Promise.all(records.map(shown)) }
    },
    provision: async ({ request: { params }, caller }) => {
      if (!/^\d{1,15}$/.test(params.call_id)) throw new Failure('request.invalid', 'A call id is a number.')
      const record = await store.provision(Number(params.call_id))
      const isTheirs = record && caller && (ownerOf(caller) === undefined || record.owner === caller.owner)
      if (!record || !(isTheirs || record.isPublic)) throw new Failure('provision.not_found', 'Provision not found')
      return shown(record)
    },
  }
}

interface FeedOf {
  readonly owner?: string | undefined
  readonly sandboxId?: string
}

const selection = ({ owner, sandboxId }: FeedOf) => ({
  ...(owner !== undefined && { owner }),
  ...(sandboxId !== undefined && { sandboxId }),
})

/** A cursor of 0 asks for all that is kept; any other must not skip what is not. @throws Failure `event.gone` */
async function assertKept(store: Store, { owner }: FeedOf, cursor: number): Promise<void> {
  if (cursor === 0 || cursor >= (await store.forgottenUpTo(owner))) return
  throw new Failure('event.gone', 'Events after this cursor are not kept any more. Read on from cursor 0, and look at the sandboxes anew.')
}

async function page(store: Store, of: FeedOf, { cursor, limit }: { cursor: number; limit: number }) {
  await assertKept(store, of, cursor)
  const events = await store.events({ ...selection(of), cursor, limit })
  return { events, next_cursor: events.at(-1)?.seq ?? cursor }
}

/** A browser that reconnects says where it was in a header, which is newer than the address it connects to. */
function startOf(cursor: number, incoming: IncomingMessage): number {
  const header = incoming.headers['last-event-id']
  return typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : cursor
}

/** Writes events as they come until the client leaves or the operator stops. The store is read at the client's pace. */
async function follow(
  { store, stopping }: InfraParts,
  of: FeedOf,
  start: number,
  { outgoing, signal }: { outgoing: ServerResponse; signal: AbortSignal },
): Promise<void> {
  await assertKept(store, of, start)
  const stream = eventStream(outgoing, AbortSignal.any([signal, stopping]))
  const unsubscribe = store.onEvent(stream.wake)
  try {
    let cursor = start
    while (stream.isOpen()) {
      const events = await store.events({ ...selection(of), cursor, limit: 100 })
      for (const event of events) await stream.send({ id: event.seq, event: event.type, data: event })
      cursor = events.at(-1)?.seq ?? cursor
      if (events.length === 0) await stream.sleep()
    }
  } finally {
    unsubscribe()
    stream.close()
  }
}
