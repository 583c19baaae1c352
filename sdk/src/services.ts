import { type ProviderKey, type RouteInput, routes, type Service, type serviceModes } from '@atoll/protocol'
import type { Connection } from './connection.ts'

/** What a service may take in all; 0 means as much as the operator has. What is not said stays as it is. */
export interface Quotas {
  readonly sandboxes?: number | undefined
  readonly cpuCores?: number | undefined
  readonly memoryMb?: number | undefined
  readonly diskGb?: number | undefined
  /** Runs of agents at once, those that wait included. */
  readonly runs?: number | undefined
  /** Calls of models from its sandboxes; a day begins at midnight UTC. */
  readonly requestsPerDay?: number | undefined
  readonly tokensPerDay?: number | undefined
  readonly spendPerDayUsd?: number | undefined
}

export interface CreateServiceOptions {
  readonly name: string
  /** The caller when not given. The first service of an owner is the default one of that owner. */
  readonly owner?: string | undefined
  /** Owners that may make sandboxes in it, too. */
  readonly members?: readonly string[] | undefined
  /** `cloud` when not given. */
  readonly mode?: (typeof serviceModes)[number] | undefined
  readonly quotas?: Quotas | undefined
}

export interface ServiceChange {
  readonly name?: string | undefined
  /** Replaces all of them. */
  readonly members?: readonly string[] | undefined
  /** An owner may lower them; only an admin may raise one. */
  readonly quotas?: Quotas | undefined
}

export interface ProviderKeyOptions {
  /** Models that sandboxes may ask for, `*` standing for anything; every one when not given. */
  readonly models?: readonly string[] | undefined
  /** Where a provider called `custom:<name>` is: an https address. */
  readonly baseUrl?: string | undefined
  /** The known provider whose API it speaks. */
  readonly like?: string | undefined
}

/** A service by its number, or the caller's own default one. */
export type ServiceReference = number | 'default'

/** Services of the caller: the tenants that sandboxes, quotas and provider keys belong to. Who names none works in the default one. */
export class Services {
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** @throws Failure `auth.forbidden` for who is no admin */
  create({ name, owner, members, mode, quotas }: CreateServiceOptions): Promise<Service> {
    return this.#connection.call(routes.services.create, {
      body: {
        name,
        ...(owner !== undefined && { owner }),
        ...(members && { members: [...members] }),
        ...(mode && { mode }),
        ...(quotas && { quotas: quotasOf(quotas) }),
      },
    })
  }

  /** Those that the caller owns or is a member of; an admin sees all. */
  async list(): Promise<Service[]> {
    return (await this.#connection.call(routes.services.list, {})).services
  }

  /** @throws Failure `service.not_found` */
  get(service: ServiceReference = 'default'): Promise<Service> {
    return this.#connection.call(routes.services.get, { params: { sid: String(service) } })
  }

  /** @throws Failure `service.not_found`, `auth.forbidden` */
  update(service: ServiceReference, { name, members, quotas }: ServiceChange): Promise<Service> {
    const body = {
      ...(name !== undefined && { name }),
      ...(members && { members: [...members] }),
      ...(quotas && { quotas: quotasOf(quotas) }),
    }
    return this.#connection.call(routes.services.update, { params: { sid: String(service) }, body }, { isRepeatable: true })
  }

  /** @throws Failure `service.not_found`, `service.in_use`, `auth.forbidden` for who is no admin */
  async remove(service: number): Promise<void> {
    await this.#connection.call(routes.services.remove, { params: { sid: String(service) } })
  }

  /** Keys of model providers, of the default service when none is given. */
  providerKeys(service: ServiceReference = 'default'): ProviderKeys {
    return new ProviderKeys(this.#connection, String(service))
  }
}

/** Keys of model providers. They can be set and not read again. */
export class ProviderKeys {
  readonly #connection: Connection
  readonly #sid: string

  constructor(connection: Connection, sid: string) {
    this.#connection = connection
    this.#sid = sid
  }

  async list(): Promise<ProviderKey[]> {
    return (await this.#connection.call(routes.services.listProviderKeys, { params: { sid: this.#sid } })).provider_keys
  }

  /** @throws Failure `provider.no_key` */
  get(provider: string): Promise<ProviderKey> {
    return this.#connection.call(routes.services.getProviderKey, { params: { sid: this.#sid, provider } })
  }

  /** Sets or replaces the key of a provider. @throws Failure `provider.unknown`, `provider.invalid`, `auth.forbidden` */
  set(provider: string, key: string, { models, baseUrl, like }: ProviderKeyOptions = {}): Promise<ProviderKey> {
    const body = {
      key,
      ...(models && { models: [...models] }),
      ...(baseUrl !== undefined && { base_url: baseUrl }),
      ...(like !== undefined && { like }),
    }
    return this.#connection.call(routes.services.setProviderKey, { params: { sid: this.#sid, provider }, body }, { isRepeatable: true })
  }

  /** Safe to repeat. @throws Failure `auth.forbidden` */
  async remove(provider: string): Promise<void> {
    await this.#connection.call(routes.services.removeProviderKey, { params: { sid: this.#sid, provider } })
  }
}

type WireQuotas = NonNullable<RouteInput<typeof routes.services.update>['body']['quotas']>

function quotasOf({ sandboxes, cpuCores, memoryMb, diskGb, runs, requestsPerDay, tokensPerDay, spendPerDayUsd }: Quotas): WireQuotas {
  return {
    ...(sandboxes !== undefined && { sandboxes }),
    ...(cpuCores !== undefined && { cpu_cores: cpuCores }),
    ...(memoryMb !== undefined && { memory_mb: memoryMb }),
    ...(diskGb !== undefined && { disk_gb: diskGb }),
    ...(runs !== undefined && { runs }),
    ...(requestsPerDay !== undefined && { requests_per_day: requestsPerDay }),
    ...(tokensPerDay !== undefined && { tokens_per_day: tokensPerDay }),
    ...(spendPerDayUsd !== undefined && { spend_per_day_usd: spendPerDayUsd }),
  }
}
