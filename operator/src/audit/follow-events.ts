// What nobody asked for is told by events: the reaper and the reconciler end sandboxes, the gateway refuses what they ask for.
import type { AuditDetail, SandboxEvent } from '@atoll/protocol'
import type { Logger } from 'pino'
import type { Store } from '../sandboxes/store.ts'
import type { Audit } from './audit.ts'
import { type Happening, ofOperator } from './happening.ts'

export interface FollowParts {
  readonly store: Pick<Store, 'events' | 'onEvent' | 'get'>
  readonly audit: Pick<Audit, 'record'>
  /** Number of the last event that is not told any more. */
  readonly cursor: number
  readonly log: Logger
}

/** Until the answer is called, which resolves when what has happened is told. */
export function followEvents({ store, audit, cursor: start, log }: FollowParts): () => Promise<void> {
  let cursor = start
  let reading = Promise.resolve()
  const read = async (): Promise<void> => {
    for (let events = await store.events({ cursor, limit: 100 }); events.length > 0; events = await store.events({ cursor, limit: 100 })) {
      for (const event of events) await tell(event)
      cursor = events.at(-1)?.seq ?? cursor
    }
  }
  const tell = async (event: SandboxEvent): Promise<void> => {
    const happening = happeningOf(event)
    if (!happening) return
    const owner = (await store.get(event.sandbox_id))?.owner ?? ''
    const actor = happening.actor.via === 'sandbox' ? { ...happening.actor, owner } : happening.actor
    await audit.record({ ...happening, actor, owner, subject: event.sandbox_id })
  }
  const readMore = (): void => {
    reading = reading.then(read).catch((error: unknown) => log.error({ err: error }, 'an event could not be written to the audit log'))
  }
  const unsubscribe = store.onEvent(readMore)
  return async () => {
    unsubscribe()
    readMore()
    await reading
  }
}

/** Undefined: whoever asked for it has an entry already. */
function happeningOf({ type, sandbox_id: id, data }: SandboxEvent): Happening | undefined {
  const reason = String(data['reason'] ?? '')
  if (type === 'sandbox.stopped' && reason !== 'asked') return ofOperator('sandbox.stop', { reason })
  if (type === 'sandbox.paused' && reason !== 'asked') return ofOperator('sandbox.pause', { reason })
  if (type === 'sandbox.ended') return ofOperator('sandbox.delete', detailOf(data, ['reason', 'code']))
  if (type !== 'egress.denied' && type !== 'model.denied') return undefined
  const actor = { owner: '', via: 'sandbox' as const, id }
  // Of a path nothing: it is the sandbox's to choose, and may say anything.
  if (type === 'model.denied') return { ...ofOperator(type, {}), actor, outcome: String(data['code']) }
  return { ...ofOperator('egress.denied', detailOf(data, ['reason', 'host', 'port', 'method'])), actor, outcome: type }
}

const detailOf = (data: SandboxEvent['data'], names: readonly string[]): AuditDetail =>
  Object.fromEntries(
    names.flatMap((name) => {
      const value = data[name]
      return typeof value === 'string' || typeof value === 'number' ? [[name, value]] : []
    }),
  )
