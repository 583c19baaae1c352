// Room for sandboxes: on this machine, and in their services. It is given to one asker at a time.
import { admit, type Limits, type Size } from './admission.ts'
import type { Locks } from './locks.ts'
import { admitToService, type Tenants } from './quota.ts'
import type { Store } from './store.ts'

export interface RoomParts {
  readonly store: Store
  readonly locks: Locks
  readonly limits: Limits
  readonly tenants: Tenants
  /** Free room on the disk that sandboxes are on. */
  readonly freeDiskMb: () => Promise<number>
}

export interface RoomRequest {
  readonly owner: string
  readonly serviceId: number
  readonly size: Size
  readonly isNew: boolean
  /** How many sandboxes the size is the sum of; 1 when not given. */
  readonly count?: number
}

const noSize: Size = { cpuCores: 0, memoryMb: 0, diskGb: 0 }
/** The lock under which room is given. */
export const admissionKey = 'admission'

export class Room {
  readonly #parts: RoomParts
  /** Of resumes that were admitted and are not yet `running` in the store. */
  readonly #reserved = new Map<string, Size & { readonly serviceId: number }>()

  constructor(parts: RoomParts) {
    this.#parts = parts
  }

  /** Nobody else is given room until the work is over. */
  alone<Result>(work: () => Promise<Result>): Promise<Result> {
    return this.#parts.locks.run(admissionKey, work)
  }

  /** @throws Failure `capacity.*`, `service.not_found` */
  async admit({ owner, serviceId, size, isNew, count }: RoomRequest): Promise<void> {
    const { store, limits, tenants, freeDiskMb } = this.#parts
    const quota = await tenants.quotaOf(serviceId, owner)
    await admitToService(store, quota, { serviceId, size, isNew, count, reserved: this.#sum(serviceId) })
    await admit(store, limits, { size, isNew, count, reserved: this.#sum(), freeDiskMb: await freeDiskMb() })
  }

  /** Keeps room for a sandbox that is about to run again, while it is made to. @throws as `admit` */
  async during<Result>(id: string, request: RoomRequest, work: () => Promise<Result>): Promise<Result> {
    await this.alone(async () => {
      await this.admit(request)
      this.#reserved.set(id, { ...request.size, serviceId: request.serviceId })
    })
    try {
      return await work()
    } finally {
      this.#reserved.delete(id)
    }
  }

  /** Of a service or (without one) of all. */
  #sum(ofService?: number): Size {
    let sum = noSize
    for (const { serviceId, ...size } of this.#reserved.values()) {
      if (ofService !== undefined && serviceId !== ofService) continue
      sum = { cpuCores: sum.cpuCores + size.cpuCores, memoryMb: sum.memoryMb + size.memoryMb, diskGb: 0 }
    }
    return sum
  }
}
