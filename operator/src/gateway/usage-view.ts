import type { usageDimensions } from '@atoll/protocol'
import type { UsageEntry } from './ledger.ts'

export type UsageDimension = (typeof usageDimensions)[number]

export interface UsageFilter {
  /** Only what is of these services, or of the owner's own sandboxes; undefined: everything. */
  readonly services: readonly number[] | undefined
  readonly owner: string | undefined
  readonly serviceId: number | undefined
  readonly sandboxId: string | undefined
  readonly runId: string | undefined
  /** Days, both included. */
  readonly from: string | undefined
  readonly to: string | undefined
}

type Amounts = 'requests' | 'failed' | 'estimated' | 'input' | 'output' | 'cached' | 'costUsd' | 'unpriced'
type Names = 'day' | 'serviceId' | 'sandboxId' | 'runId' | 'provider' | 'model'

/** What was not asked for is undefined. */
export type UsageSums = Pick<UsageEntry, Amounts> & { readonly [Name in Names]: UsageEntry[Name] | undefined }

export interface UsageView {
  usage(filter: UsageFilter, by: readonly UsageDimension[], limit: number): Promise<UsageSums[]>
}
