// How many runs of agents a service has at once. The sidecars know them; they are counted when one more is asked for.
import { Failure } from '@atoll/protocol'
import type { SidecarHealth } from '@atoll/protocol/sidecar'
import type { Guests } from '../sandboxes/guests.ts'
import type { Locks } from '../sandboxes/locks.ts'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import type { Store } from '../sandboxes/store.ts'
import type { ServiceStore } from './store.ts'

export interface RunQuotaParts {
  readonly services: Pick<ServiceStore, 'get'>
  readonly store: Pick<Store, 'list'>
  readonly guests: Guests
  readonly locks: Locks
}

const countMs = 3000

export class RunQuota {
  readonly #parts: RunQuotaParts

  constructor(parts: RunQuotaParts) {
    this.#parts = parts
  }

  /** Starts a run unless its service has as many, those that wait included. @throws Failure `capacity.quota` */
  async start<Answer>({ serviceId }: SandboxRecord, begin: () => Promise<Answer>): Promise<Answer> {
    const most = (await this.#parts.services.get(serviceId))?.quotas.runs ?? 0
    if (most === 0) return begin()
    // One after the other, so that what is counted is still so when the run begins.
    return this.#parts.locks.run(`runs-${serviceId}`, async () => {
      const current = await this.#count(serviceId)
      if (current < most) return begin()
      const message = `Service ${serviceId} may have ${most} runs of agents at once, and has ${current}. Wait for one to end, or cancel one.`
      throw new Failure('capacity.quota', message, { retryAfterMs: 5000 })
    })
  }

  /** A sandbox that does not answer takes no prompt either. */
  async #count(serviceId: number): Promise<number> {
    const { store, guests } = this.#parts
    const sandboxes = await store.list({ serviceId, states: ['running'] })
    const counts = await Promise.all(
      sandboxes.map(async (sandbox) => {
        const request = { method: 'GET', path: '/health', signal: AbortSignal.timeout(countMs) }
        return guests
          .of(sandbox)
          .call<SidecarHealth>(request)
          .then(
            ({ runs = 0 }) => runs,
            () => 0,
          )
      }),
    )
    return counts.reduce((sum, count) => sum + count, 0)
  }
}
