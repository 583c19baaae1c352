import type { AuditEntry } from '@atoll/protocol'
import type { SealedHead } from './head.ts'

export interface AuditFilter {
  /** Who did it, or whose it was done to; of several names both must fit. */
  readonly owners: readonly string[]
  /** A name, or the first part of several. */
  readonly action?: string | undefined
  readonly cursor: number
  readonly limit: number
}

/** What is forgotten together with a checkpoint: all up to this number. */
export interface Checkpoint {
  readonly upTo: number
  readonly hash: string
}

/** Where the log is kept. Every method is one transaction, durable when it resolves. */
export interface AuditStore {
  /** @param forgetUpTo entries up to this number go */
  append(entries: readonly AuditEntry[], head: SealedHead, forgetUpTo?: number): Promise<void>
  list(filter: AuditFilter): Promise<AuditEntry[]>
  last(): Promise<AuditEntry | undefined>
  hashAt(seq: number): Promise<string | undefined>
  head(): Promise<SealedHead | undefined>
  /** The last of the first entries that are older than `before` (unix milliseconds), at most `most` of them, and never the last of all. */
  due(before: number, most: number): Promise<Checkpoint | undefined>
}
