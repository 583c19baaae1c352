// The keys of model providers: sealed in the store, shown to nobody again.
import { Failure } from '@atoll/protocol'
import { providerFor, type SaidOfProvider } from '../gateway/providers.ts'
import type { Seal } from '../sandboxes/secrets.ts'
import type { Secret } from '../secrets/secret.ts'
import type { Asker, Services } from './services.ts'
import type { ProviderKeyRecord, ServiceStore } from './store.ts'

/** What may be known of a key. */
export interface KnownKey extends Pick<ProviderKeyRecord, 'provider' | 'lastFour' | 'createdAt' | 'lastUsedAt'> {
  readonly baseUrl: string
}

export interface NewProviderKey {
  readonly key: Secret
  readonly custom: SaidOfProvider
}

export interface ProviderKeysParts {
  readonly services: Services
  readonly store: ServiceStore
  readonly seal: Seal
  readonly now: () => number
}

/** Four characters of a shorter key would be too much of it. */
const minLengthToShow = 16

export class ProviderKeys {
  readonly #parts: ProviderKeysParts

  constructor(parts: ProviderKeysParts) {
    this.#parts = parts
  }

  /** @throws Failure `service.not_found`, `auth.forbidden`, `provider.unknown`, `provider.invalid` */
  async set(asker: Asker, reference: string, id: string, { key, custom: said }: NewProviderKey): Promise<KnownKey> {
    const { services, store, seal, now } = this.#parts
    const service = await services.own(asker, reference)
    const { custom } = providerFor(id, said)
    const text = key.reveal()
    const record = {
      serviceId: service.id,
      provider: id,
      custom,
      sealed: seal.seal(text, providerKeyContext(service.id, id)),
      lastFour: text.length < minLengthToShow ? '' : text.slice(-4),
      createdAt: now(),
      lastUsedAt: undefined,
    }
    await store.setKey(service, record, asker.owner)
    return knownOf(record)
  }

  /** @throws Failure `service.not_found`, `provider.no_key` */
  async get(asker: Asker, reference: string, id: string): Promise<KnownKey> {
    const { services, store } = this.#parts
    const service = await services.get(asker, reference)
    const record = await store.key(service.id, id)
    if (record) return knownOf(record)
    throw new Failure('provider.no_key', `Service ${service.id} has no key of ${JSON.stringify(id.slice(0, 64))}.`)
  }

  /** @throws Failure `service.not_found` */
  async list(asker: Asker, reference: string): Promise<KnownKey[]> {
    const { services, store } = this.#parts
    return (await store.keys((await services.get(asker, reference)).id)).map(knownOf)
  }

  /** Safe to repeat. @throws Failure `service.not_found`, `auth.forbidden` */
  async remove(asker: Asker, reference: string, id: string): Promise<void> {
    const { services, store } = this.#parts
    await store.removeKey(await services.own(asker, reference), id, asker.owner)
  }
}

/** What a provider key is sealed for. */
export const providerKeyContext = (serviceId: number, provider: string): string => `service/${serviceId}/provider-key/${provider}`

const knownOf = ({ provider, custom, lastFour, createdAt, lastUsedAt }: ProviderKeyRecord): KnownKey => ({
  provider,
  baseUrl: providerFor(provider, custom).provider.baseUrl,
  lastFour,
  createdAt,
  lastUsedAt,
})
