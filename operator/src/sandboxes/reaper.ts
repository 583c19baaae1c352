// Pauses or stops idle sandboxes and ends those that outlived their lifetime.
import type { SandboxStatus } from '@atoll/protocol'
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

/** One round. Resolves with how many were paused or stopped, and removed. */
export async function reap(parts: ReaperParts): Promise<{ idle: number; lifetime: number }> {
  const done = { idle: 0, lifetime: 0 }
  const sandboxes = await parts.store.list({ states: [...living] })
  parts.activity.keepOnly(new Set(sandboxes.map(({ id }) => id)))
  for (const { id } of sandboxes) {
    // A round takes as long as its stops and removals do: each sandbox is judged by what it is when its turn comes.
    const sandbox = await parts.store.get(id)
    if (!sandbox || !living.has(sandbox.state)) continue
    try {
      if (parts.now() - sandbox.createdAt > sandbox.maxLifetimeSeconds * 1000) {
        await parts.lifecycle.remove(sandbox, { reason: 'lifetime' })
        done.lifetime += 1
      } else if (await putToRest(parts, sandbox)) done.idle += 1
    } catch (error) {
      parts.log.warn({ sandboxId: sandbox.id, err: error }, 'sandbox could not be reaped')
    }
  }
  return done
}

const living = new Set<SandboxStatus>(['running', 'paused', 'stopped'])

/** Whether it was idle, and rests now. One that was paused is stopped when it is left alone for as long again. */
async function putToRest(parts: ReaperParts, sandbox: SandboxRecord): Promise<boolean> {
  if (sandbox.state === 'stopped') return false
  if (!(await isIdle(parts, sandbox))) return false
  const isPausable = sandbox.state === 'running' && sandbox.idleAction === 'pause'
  await (isPausable ? parts.lifecycle.pause(sandbox, 'idle') : parts.lifecycle.stop(sandbox, 'idle'))
  return true
}

/** Idle: nobody used it for its idle timeout, no stream is open, and no process or agent that was started through the API is at work. */
async function isIdle({ activity, guests, now }: ReaperParts, sandbox: SandboxRecord): Promise<boolean> {
  const usedAt = Math.max(sandbox.lastActivityAt, activity.usedAt(sandbox.id))
  const isPaused = sandbox.state === 'paused'
  if (now() - usedAt <= sandbox.idleTimeoutSeconds * (isPaused ? 2000 : 1000)) return false
  if (isPaused) return true
  if (activity.isHeld(sandbox.id)) return false
  const health = await guests.of(sandbox).ready(1000, AbortSignal.timeout(5000))
  return health.processes === 0 && (health.runs ?? 0) === 0
}
