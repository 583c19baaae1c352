// Snapshots as the core knows them, and where they and their files are kept.
import type { EgressPolicy, RuntimeName } from '@atoll/protocol'
import type { Size } from './admission.ts'
import type { SandboxRecord } from './sandbox.ts'

/** What a copy of a sandbox is made like, where nothing else is asked for. */
export interface Template extends Size {
  readonly runtime: RuntimeName
  readonly image: string
  readonly agentIdentifier: string
  readonly ports: readonly number[]
  readonly metadata: Readonly<Record<string, unknown>>
  readonly capabilities: readonly string[]
  /** What its owner had said; undefined: nothing. */
  readonly egress: EgressPolicy | undefined
  /** What the disk really takes. */
  readonly bytes: number
}

/** Times are unix milliseconds. */
export interface SnapshotRecord {
  readonly id: string
  readonly owner: string
  readonly sandboxId: string
  readonly serviceId: number
  readonly name: string
  readonly state: 'creating' | 'ready' | 'failed'
  readonly error: { readonly code: string; readonly message: string } | undefined
  readonly template: Template
  /** What its file is encrypted with. */
  readonly keySealed: string
  readonly sizeBytes: number
  readonly createdAt: number
}

/** What its key is sealed for. */
export const snapshotContext = (id: string): string => `snapshot/${id}/key`

export interface SnapshotFilter {
  readonly owner?: string | undefined
  readonly sandboxId?: string | undefined
  readonly state?: SnapshotRecord['state'] | undefined
  readonly limit?: number | undefined
  /** Id and creation time of the last one of the page before. */
  readonly after?: { readonly createdAt: number; readonly id: string } | undefined
}

/** A fork that is not over: all of its sandboxes live, or none. */
export interface ForkRecord {
  readonly id: string
  readonly sandboxId: string
  readonly madeIds: readonly string[]
}

/** Each method is one transaction, with the event of what it does, durable when it resolves. */
export interface SnapshotStore {
  /** @param key repeats of it find this snapshot */
  insert(snapshot: SnapshotRecord, key?: { readonly key: string; readonly fingerprint: string }): Promise<void>
  findIdempotent(owner: string, key: string): Promise<{ readonly id: string; readonly fingerprint: string } | undefined>
  get(id: string): Promise<SnapshotRecord | undefined>
  /** Newest first. */
  list(filter: SnapshotFilter): Promise<SnapshotRecord[]>
  count(owner: string): Promise<number>
  /** One that failed gives its key back, so that a repeat makes another. */
  finish(snapshot: SnapshotRecord, result: Pick<SnapshotRecord, 'state' | 'error' | 'sizeBytes'>): Promise<void>
  remove(snapshot: SnapshotRecord): Promise<void>
  openFork(fork: ForkRecord): Promise<void>
  closeFork(id: string): Promise<void>
  forks(): Promise<ForkRecord[]>
}

/** Copies of disks. Whatever fails leaves nothing of its own behind. */
export interface SnapshotFiles {
  /** A sealed key for a new snapshot. */
  newKey(id: string): string
  /** What a sandbox's disk really takes. @throws Failure `runtime.unsupported` when it is not one that can be copied */
  diskBytes(sandboxId: string): Promise<number>
  /** Copies a disk while nothing writes to it. @param name by which the copy is known then */
  copy(sandboxId: string, name: string, signal: AbortSignal): Promise<void>
  /** Makes the snapshot's file of the copy of its name. Bytes of the file. @param progress told from 0 to 1 */
  pack(snapshot: SnapshotRecord, signal: AbortSignal, progress: (share: number) => void): Promise<number>
  /** @throws Failure `snapshot.damaged`, `snapshot.newer_format` for what can be seen at once */
  check(id: string): Promise<void>
  /** The disk image for a new sandbox, from a snapshot. @throws Failure as `check` */
  unpack(snapshot: SnapshotRecord, sandboxId: string, signal: AbortSignal): Promise<string>
  /** The same from a copy. */
  duplicate(name: string, sandboxId: string, signal: AbortSignal): Promise<string>
  /** Takes away the copy of a name, or the image for a sandbox that was not used. Safe to repeat. */
  dropCopy(name: string): Promise<void>
  /** Takes away everything of a snapshot. Safe to repeat. */
  remove(id: string): Promise<void>
  /** Takes away whatever is of none of these snapshots, as after a crash. What it was. */
  clean(known: ReadonlySet<string>): Promise<string[]>
  /** A disk that a copy which was cut off may have left frozen takes writes again. */
  thaw(sandboxId: string): Promise<void>
}

/** The disk that a new sandbox begins with. */
export interface Seed {
  /** The sandbox's id. */
  readonly id: string
  /** The image, which becomes the sandbox's. */
  prepare(sandbox: SandboxRecord, signal: AbortSignal): Promise<string>
  /** Safe to repeat, also when there was nothing. */
  discard(): Promise<void>
}
