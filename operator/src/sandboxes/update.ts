// What of a sandbox can be changed while it lives.
import { Failure } from '@atoll/protocol'
import type { Limits } from './admission.ts'
import type { SandboxRecord } from './sandbox.ts'
import type { SandboxChange } from './store.ts'

/** What is not said stays as it is. */
export interface SandboxUpdate {
  readonly name?: string | undefined
  readonly idle_timeout_seconds?: number | undefined
  readonly max_lifetime_seconds?: number | undefined
  readonly extend_seconds?: number | undefined
  readonly idle_action?: SandboxRecord['idleAction'] | undefined
  readonly auto_resume?: boolean | undefined
}

/** Times are cut to what the operator allows. @throws Failure `request.invalid` */
export function changeOf(current: SandboxRecord, wanted: SandboxUpdate, limits: Limits): SandboxChange {
  const { max_lifetime_seconds: lifetime, extend_seconds: extension } = wanted
  if (lifetime !== undefined && extension !== undefined) {
    throw new Failure('request.invalid', 'Give either max_lifetime_seconds or extend_seconds.')
  }
  const wantedLifetime = lifetime ?? current.maxLifetimeSeconds + (extension ?? 0)
  return {
    name: wanted.name ?? current.name,
    idleTimeoutSeconds: Math.min(wanted.idle_timeout_seconds ?? current.idleTimeoutSeconds, limits.maxIdleSeconds),
    // One that was allowed more when it was made keeps it.
    maxLifetimeSeconds: Math.min(wantedLifetime, Math.max(limits.maxLifetimeSeconds, current.maxLifetimeSeconds)),
    idleAction: wanted.idle_action ?? current.idleAction,
    autoResume: wanted.auto_resume ?? current.autoResume,
  }
}
