import type { Service, ServiceQuotas } from '@atoll/protocol'
import type { CustomProvider } from '../gateway/providers.ts'

/** A service as the store remembers it. Times are unix milliseconds. */
export interface ServiceRecord {
  readonly id: number
  readonly name: string
  readonly owner: string
  readonly members: readonly string[]
  readonly mode: Service['mode']
  readonly isDefault: boolean
  readonly quotas: ServiceQuotas
  readonly createdAt: number
}

export type NewServiceRecord = Omit<ServiceRecord, 'id' | 'isDefault'>

export interface ProviderKeyRecord {
  readonly serviceId: number
  readonly provider: string
  /** Undefined: the provider is in the table. */
  readonly custom: CustomProvider | undefined
  /** None: every model. */
  readonly models: readonly string[]
  readonly kind: 'key' | 'oauth'
  readonly sealed: string
  readonly lastFour: string
  readonly createdAt: number
  readonly lastUsedAt: number | undefined
}

/** Who did something, for the event that is written with it. */
export type By = string

/** Every method is one transaction, durable when it resolves. What changes something writes its event with it. */
export interface ServiceStore {
  /** The owner's first service is the default one. */
  insert(service: NewServiceRecord, by: By): Promise<ServiceRecord>
  /** The default service of the fresh one's owner; the fresh one becomes it when there is none. */
  findOrInsertDefault(fresh: NewServiceRecord, by: By): Promise<ServiceRecord>
  get(id: number): Promise<ServiceRecord | undefined>
  /** Those that somebody owns or is a member of or (undefined) all, oldest first. */
  list(person: string | undefined): Promise<ServiceRecord[]>
  /** Undefined when it is gone. */
  update(id: number, change: Partial<Pick<ServiceRecord, 'name' | 'members' | 'quotas'>>, by: By): Promise<ServiceRecord | undefined>
  /** False, and nothing is removed, while sandboxes that have not ended belong to it. */
  remove(service: ServiceRecord, by: By): Promise<boolean>
  setKey(service: ServiceRecord, key: ProviderKeyRecord, by: By): Promise<void>
  key(serviceId: number, provider: string): Promise<ProviderKeyRecord | undefined>
  keys(serviceId: number): Promise<ProviderKeyRecord[]>
  /** Puts another text in place of the sealed one. False when the key was set anew or removed since it was read. */
  replaceSealed(read: ProviderKeyRecord, sealed: string): Promise<boolean>
  /** Safe to repeat. */
  removeKey(service: ServiceRecord, provider: string, by: By): Promise<void>
}
