// Stops idle sandboxes and ends those that outlived their lifetime.
import type { Logger } from 'pino'
import type { Activity } from './activity.ts'
import type { Guests } from './guests.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { SandboxRecord } from './sandbox.ts'
import type { Store } from './store.ts'

export interface ReaperParts {
  readonly store: Store
  readonly lifecycle: Lifecycle
  readonly activity: Activity
  readonly guests: Guests
  readonly now: () => number
  readonly log: Logger
}

/** One round. Resolves with how many were stopped and removed. */
export async function reap(parts: ReaperParts): Promise<{ idle: number; lifetime: number }> {
  const done = { idle: 0, lifetime: 0 }
  const sandboxes = await parts.store.list({ states: ['running', 'stopped'] })
  parts.activity.keepOnly(new Set(sandboxes.map(({ id }) => id)))
  for (const { id } of sandboxes) {
    // A round takes as long as its stops and removals do: each sandbox is judged by what it is when its turn comes.
    const sandbox = await parts.store.get(id)
    if (sandbox?.state !== 'running' && sandbox?.state !== 'stopped') continue
    try {
      if (parts.now() - sandbox.createdAt > sandbox.maxLifetimeSeconds * 1000) {
        await parts.lifecycle.remove(sandbox, { reason: 'lifetime' })
        done.lifetime += 1
      } else if (sandbox.state === 'running' && (await isIdle(parts, sandbox))) {
        await parts.lifecycle.stop(sandbox, 'idle')
        done.idle += 1
      }
    } catch (error) {
      parts.log.warn({ sandboxId: sandbox.id, err: error }, 'sandbox could not be reaped')
    }
  }
  return done
}

/** Idle: nobody used it for its idle timeout, no stream is open, and no process or agent that was started through the API is at work. */
async function isIdle({ activity, guests, now }: ReaperParts, sandbox: SandboxRecord): Promise<boolean> {
  const usedAt = Math.max(sandbox.lastActivityAt, activity.usedAt(sandbox.id))
  if (now() - usedAt <= sandbox.idleTimeoutSeconds * 1000 || activity.isHeld(sandbox.id)) return false
  const health = await guests.of(sandbox).ready(1000, AbortSignal.timeout(5000))
  return health.processes === 0 && (health.runs ?? 0) === 0
}
