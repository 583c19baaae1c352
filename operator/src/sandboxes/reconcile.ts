// From what the runtimes really have to what the store remembers. A runtime that does not answer proves nothing about its sandboxes.
import type { Logger } from 'pino'
import type { Guests } from './guests.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { Observed, Runtime } from './runtime.ts'
import type { SandboxRecord } from './sandbox.ts'
import type { Secrets } from './secrets.ts'
import type { Snapshots } from './snapshots.ts'
import type { Store } from './store.ts'

export interface ReconcileParts {
  readonly store: Store
  readonly lifecycle: Lifecycle
  readonly guests: Guests
  readonly secrets: Secrets
  readonly snapshots: Pick<Snapshots, 'undoInterruptedForks'>
  readonly runtimes: Iterable<Runtime>
  readonly log: Logger
}

/** Brings records and runtimes together once. Never throws; a runtime that fails is left for the next round. */
export async function reconcile(parts: ReconcileParts): Promise<void> {
  for (const runtime of parts.runtimes) {
    try {
      await reconcileRuntime(parts, runtime)
    } catch (error) {
      parts.log.warn({ runtime: runtime.name, err: error }, 'runtime could not be reconciled')
    }
  }
  await parts.snapshots.undoInterruptedForks()
}

async function reconcileRuntime(parts: ReconcileParts, runtime: Runtime): Promise<void> {
  // Records first: a sandbox that is made between the two readings is then in the second only, and is known by id.
  const records = await parts.store.list({ runtime: runtime.name, states: ['creating', 'running', 'paused', 'stopped', 'deleting'] })
  const seen = new Map((await runtime.list()).map((observed) => [observed.id, observed]))
  for (const record of records) {
    await one(parts, record, seen.get(record.id)).catch((error: unknown) => {
      parts.log.warn({ sandboxId: record.id, err: error }, 'sandbox could not be reconciled')
    })
    seen.delete(record.id)
  }
  for (const observed of seen.values()) await removeLeftover(parts, runtime, observed)
}

async function one(parts: ReconcileParts, record: SandboxRecord, observed: Observed | undefined): Promise<void> {
  const { lifecycle } = parts
  if (record.state === 'creating') return lifecycle.abandonInterrupted(record)
  if (record.state === 'deleting') return lifecycle.remove(record, record.end)
  if (!observed) return lifecycle.observed(record, 'gone')
  if (record.state !== observed.state) return lifecycle.observed(record, observed.state)
}

/** What carries this operator's mark and has no live record is a leftover. */
async function removeLeftover({ store, lifecycle, log }: ReconcileParts, runtime: Runtime, observed: Observed): Promise<void> {
  const record = await store.get(observed.id)
  const isAlive = record && record.state !== 'ended'
  if (isAlive || lifecycle.isCreating(observed.id)) return
  log.warn({ sandboxId: observed.id, runtime: runtime.name }, 'removing a leftover without a record')
  await runtime
    .remove(observed.id)
    .catch((error: unknown) => log.error({ sandboxId: observed.id, err: error }, 'a leftover could not be removed'))
}

/**
 * Opens the gateway of every running sandbox, then gives it its environment again: a change may have been written and not delivered when
 * the operator died.
 */
export async function redeliver({ store, guests, secrets, log }: ReconcileParts): Promise<void> {
  const running = await store.list({ states: ['running'] })
  for (const record of running) if (record.socketPath) await guests.open(record, record.socketPath)
  for (const record of running) {
    try {
      await guests.of(record).configure(await secrets.environment(record.id))
    } catch (error) {
      log.warn({ sandboxId: record.id, err: error }, 'a running sandbox did not take its environment')
    }
  }
}
