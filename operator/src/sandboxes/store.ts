import type { Provision, RuntimeName, SandboxEvent, SandboxStatus } from '@atoll/protocol'
import type { SandboxRecord } from './sandbox.ts'

export interface NewEvent {
  readonly type: string
  readonly sandboxId: string
  readonly data?: Readonly<Record<string, unknown>>
}

/** What a move may change beside the state. */
export type SandboxChange = Partial<
  Pick<
    SandboxRecord,
    | 'end'
    | 'socketPath'
    | 'stoppedAt'
    | 'lastActivityAt'
    | 'image'
    | 'name'
    | 'idleTimeoutSeconds'
    | 'maxLifetimeSeconds'
    | 'idleAction'
    | 'autoResume'
  >
>

export interface SandboxFilter {
  readonly owner?: string
  readonly states?: readonly SandboxStatus[]
  readonly runtime?: RuntimeName
  readonly serviceId?: number
  /** `[key, text]` pairs that the metadata must hold. */
  readonly metadata?: readonly (readonly [string, string])[]
  readonly limit?: number
  /** Id and creation time of the last sandbox of the page before. */
  readonly after?: { readonly createdAt: number; readonly id: string }
}

export interface Idempotency {
  readonly key: string
  /** Hash of what was asked, so that a key cannot be used for two things. */
  readonly fingerprint: string
}

/** Sealed texts of a sandbox; the store never sees what is in them. */
export interface SealedEnvironment {
  readonly env: string | undefined
  readonly secrets: string | undefined
}

export interface ProvisionChange {
  readonly phase: Provision['phase']
  readonly message?: string | undefined
}

export interface ProvisionRecord extends Provision {
  readonly owner: string
  /** Readable without a credential: its number is public already, on a chain. */
  readonly isPublic: boolean
}

/** Sums over the sandboxes that take room, for admission: memory and CPU of those that run or are paused, disk of stopped ones too. */
export interface Usage {
  readonly sandboxes: number
  readonly memoryMb: number
  readonly cpuCores: number
  readonly diskGb: number
}

/** What is over for long enough. Times are unix milliseconds. */
export interface Due {
  readonly eventsBefore: number
  readonly eventsPerOwner: number
  readonly endedBefore: number
}

export interface Forgetful {
  /** Forgets a piece of what is due. Answers how many rows; 0 when nothing is due any more. */
  forget(due: Due): Promise<number>
  /** Number of the last forgotten event of an owner or (without one) of all; 0: none was. */
  forgottenUpTo(owner: string | undefined): Promise<number>
}

/**
 * What must be remembered. Every method is one transaction, durable when it resolves. Times are unix milliseconds, but for provisions,
 * which keep the wire's seconds.
 */
export interface Store extends Forgetful {
  /** Inserts sandbox, provision, event and idempotency key together. The answer has the provision's number. */
  insert(sandbox: Omit<SandboxRecord, 'version' | 'callId'>, sealed: SealedEnvironment, idempotency?: Idempotency): Promise<SandboxRecord>
  get(id: string): Promise<SandboxRecord | undefined>
  list(filter: SandboxFilter): Promise<SandboxRecord[]>
  /** Moves a sandbox, or changes one that stays in its state, if nobody else did since `from` was read; undefined when somebody did. The event is written with it. */
  move(from: SandboxRecord, to: SandboxStatus, change: SandboxChange, event: NewEvent): Promise<SandboxRecord | undefined>
  touch(id: string, lastActivityAt: number): Promise<void>
  /** Of a service or (without one) of all. */
  usage(serviceId?: number): Promise<Usage>
  findIdempotent(owner: string, key: string): Promise<{ readonly sandboxId: string; readonly fingerprint: string } | undefined>
  /** Lets the key of a sandbox be used for another one. */
  releaseIdempotency(sandboxId: string): Promise<void>
  sealed(id: string): Promise<SealedEnvironment>
  setSecrets(id: string, secrets: string | undefined, event: NewEvent): Promise<void>
  appendEvent(event: NewEvent): Promise<void>
  /** Events after `cursor`, oldest first, of an owner or (without one) of all. */
  events(filter: {
    readonly owner?: string
    readonly sandboxId?: string
    readonly cursor: number
    readonly limit: number
  }): Promise<SandboxEvent[]>
  setProvision(callId: number, change: ProvisionChange): Promise<void>
  provision(callId: number): Promise<ProvisionRecord | undefined>
  provisions(owner: string | undefined, limit: number): Promise<ProvisionRecord[]>
  /** Resolves when the store can be read and written. */
  check(): Promise<void>
  /** Told after each event that was written, in this process. */
  onEvent(listener: () => void): () => void
}
