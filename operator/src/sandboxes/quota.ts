// What the sandboxes of one service may take together. The core knows services only by what it asks of them here.
import { Failure } from '@atoll/protocol'
import type { Size } from './admission.ts'
import type { Store } from './store.ts'

/** 0 means none. */
export interface Quota extends Size {
  readonly sandboxes: number
}

export interface Tenants {
  /**
   * The service that a new sandbox of an owner belongs to: the one asked for, else the owner's default one.
   * @throws Failure `service.not_found` when the owner may not make sandboxes in it
   */
  serviceFor(owner: string, asked: number | undefined): Promise<number>
  /** @throws Failure `service.not_found` when the owner may not have sandboxes in it any more */
  quotaOf(serviceId: number, owner: string): Promise<Quota>
}

export interface QuotaRequest {
  readonly serviceId: number
  readonly size: Size
  readonly isNew: boolean
  /** How many sandboxes the size is the sum of; 1 when not given. */
  readonly count?: number | undefined
  /** Memory and CPU of the service's resumes that are under way and not in the store yet. */
  readonly reserved: Size
}

/** @throws Failure `capacity.quota` */
export async function admitToService(store: Store, quota: Quota, asked: QuotaRequest): Promise<void> {
  const usage = await store.usage(asked.serviceId)
  const sum = (field: keyof Size): number => usage[field] + asked.reserved[field] + asked.size[field]
  const assertWithin = (wanted: number, most: number, what: string): void => {
    if (most === 0 || wanted <= most) return
    throw new Failure(
      'capacity.quota',
      `Service ${asked.serviceId} may have ${most} ${what}, and would have ${wanted}. Stop or delete a sandbox of it, or have its quota raised.`,
    )
  }
  assertWithin(sum('memoryMb'), quota.memoryMb, 'MB of memory')
  assertWithin(sum('cpuCores'), quota.cpuCores, 'CPU cores')
  // A stopped sandbox has its place and its disk already.
  if (!asked.isNew) return
  assertWithin(usage.sandboxes + (asked.count ?? 1), quota.sandboxes, 'sandboxes')
  assertWithin(sum('diskGb'), quota.diskGb, 'GB of disk')
}
