// Services: the tenants of the operator. Who may see and change one, and what its sandboxes may take.
import { Failure, type Service, type ServiceQuotas } from '@atoll/protocol'
import type { Locks } from '../sandboxes/locks.ts'
import type { Quota, Tenants } from '../sandboxes/quota.ts'
import { admissionKey } from '../sandboxes/room.ts'
import type { ServiceRecord, ServiceStore } from './store.ts'

/** Who asks. An admin sees and may change every service. */
export interface Asker {
  readonly owner: string
  readonly isAdmin: boolean
}

/** What is not said stays as it is. */
export type QuotaChange = { readonly [Name in keyof ServiceQuotas]?: ServiceQuotas[Name] | undefined }

export interface NewService {
  readonly name: string
  readonly owner: string
  readonly members: readonly string[]
  readonly mode: Service['mode']
  readonly quotas: QuotaChange
}

export interface ServiceChange {
  readonly name?: string | undefined
  readonly members?: readonly string[] | undefined
  readonly quotas?: QuotaChange | undefined
}

export interface ServicesParts {
  readonly store: ServiceStore
  readonly locks: Locks
  readonly now: () => number
  /** Whether this operator has a runtime for confidential machines. */
  readonly isConfidential: boolean
}

const noQuotas: ServiceQuotas = {
  sandboxes: 0,
  cpu_cores: 0,
  memory_mb: 0,
  disk_gb: 0,
  runs: 0,
  requests_per_day: 0,
  tokens_per_day: 0,
  spend_per_day_usd: 0,
}

export class Services implements Tenants {
  readonly #parts: ServicesParts

  constructor(parts: ServicesParts) {
    this.#parts = parts
  }

  /** @throws Failure `runtime.unsupported` */
  async create(asker: Asker, { mode, quotas, ...rest }: NewService): Promise<ServiceRecord> {
    if (mode === 'tee-instance' && !this.#parts.isConfidential) {
      throw new Failure('runtime.unsupported', 'No runtime of this operator is confidential, so it has no services of mode tee-instance.')
    }
    const service = { ...rest, members: unique(rest.members), mode, quotas: changed(noQuotas, quotas), createdAt: this.#parts.now() }
    return this.#parts.store.insert(service, asker.owner)
  }

  async list(asker: Asker): Promise<ServiceRecord[]> {
    await this.#defaultOf(asker.owner)
    return this.#parts.store.list(asker.isAdmin ? undefined : asker.owner)
  }

  /** By its number or as `default`, which is the asker's own. @throws Failure `service.not_found`, also for one of strangers */
  async get(asker: Asker, reference: string): Promise<ServiceRecord> {
    if (reference === 'default') return this.#defaultOf(asker.owner)
    const found = /^[1-9]\d{0,14}$/.test(reference) ? await this.#parts.store.get(Number(reference)) : undefined
    if (!found || !(asker.isAdmin || belongsTo(found, asker.owner))) throw notFound(reference)
    return found
  }

  /** The same, for somebody who wants to change it. @throws Failure `service.not_found`, `auth.forbidden` for a member */
  async own(asker: Asker, reference: string): Promise<ServiceRecord> {
    const service = await this.get(asker, reference)
    if (asker.isAdmin || service.owner === asker.owner) return service
    throw new Failure('auth.forbidden', `You are a member of service ${service.id}; only its owner may change it.`)
  }

  /** @throws Failure `service.not_found`, `auth.forbidden` */
  async update(asker: Asker, reference: string, { name, members, quotas }: ServiceChange): Promise<ServiceRecord> {
    const { id } = await this.own(asker, reference)
    // One change after the other, so that what is compared is what is replaced.
    return this.#parts.locks.run(`service-${id}`, async () => {
      const service = await this.own(asker, String(id))
      if (quotas && !asker.isAdmin) assertLower(service.quotas, quotas)
      const change = {
        ...(name !== undefined && { name }),
        ...(members && { members: unique(members) }),
        ...(quotas && { quotas: changed(service.quotas, quotas) }),
      }
      const updated = await this.#parts.store.update(id, change, asker.owner)
      if (!updated) throw notFound(reference)
      return updated
    })
  }

  /** @throws Failure `service.not_found`, `service.in_use` */
  async remove(asker: Asker, reference: string): Promise<void> {
    const service = await this.own(asker, reference)
    // No sandbox is admitted to it meanwhile.
    const isRemoved = await this.#parts.locks.run(admissionKey, () => this.#parts.store.remove(service, asker.owner))
    if (!isRemoved) throw new Failure('service.in_use', `Service ${service.id} has sandboxes. Delete them first.`)
  }

  async serviceFor(owner: string, asked: number | undefined): Promise<number> {
    if (asked === undefined) return (await this.#defaultOf(owner)).id
    const found = await this.#parts.store.get(asked)
    if (!found || !belongsTo(found, owner)) throw notFound(String(asked))
    return found.id
  }

  async quotaOf(serviceId: number, owner: string): Promise<Quota> {
    const found = await this.#parts.store.get(serviceId)
    if (!found || !belongsTo(found, owner)) throw notFound(String(serviceId))
    const { sandboxes, cpu_cores: cpuCores, memory_mb: memoryMb, disk_gb: diskGb } = found.quotas
    return { sandboxes: found.mode === 'cloud' ? sandboxes : 1, cpuCores, memoryMb, diskGb }
  }

  /** The services that somebody owns. */
  async ownedBy(owner: string): Promise<number[]> {
    return (await this.#parts.store.list(owner)).filter((service) => service.owner === owner).map(({ id }) => id)
  }

  /** What a sandbox of the owner may use of models. @throws Failure `service.not_found` when the owner may not be in it any more */
  async modelQuotas(serviceId: number, owner: string): Promise<ServiceQuotas> {
    const found = await this.#parts.store.get(serviceId)
    if (!found || !belongsTo(found, owner)) throw notFound(String(serviceId))
    return found.quotas
  }

  /** Made on demand, so that nobody must learn of services to start. */
  #defaultOf(owner: string): Promise<ServiceRecord> {
    const fresh = { name: 'default', owner, members: [], mode: 'cloud', quotas: noQuotas, createdAt: this.#parts.now() } as const
    return this.#parts.store.findOrInsertDefault(fresh, owner)
  }
}

const belongsTo = ({ owner, members }: ServiceRecord, person: string): boolean => owner === person || members.includes(person)

const unique = (names: readonly string[]): string[] => [...new Set(names)]

const changed = (quotas: ServiceQuotas, change: QuotaChange): ServiceQuotas => ({
  ...quotas,
  ...Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined)),
})

const notFound = (reference: string): Failure =>
  new Failure('service.not_found', `No service ${reference.slice(0, 64)} is yours. List yours with GET /api/services.`)

/** @throws Failure `auth.forbidden` when a quota would be raised; 0 is the highest */
function assertLower(current: ServiceQuotas, asked: QuotaChange): void {
  const height = (quota: number): number => (quota === 0 ? Number.POSITIVE_INFINITY : quota)
  for (const name of Object.keys(current) as (keyof ServiceQuotas)[]) {
    if (height(asked[name] ?? current[name]) <= height(current[name])) continue
    throw new Failure('auth.forbidden', `Only an admin may raise the quota ${name}, which is ${current[name]}.`)
  }
}
