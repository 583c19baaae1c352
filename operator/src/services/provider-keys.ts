// The keys of model providers: sealed in the store, shown to nobody again.
import { Failure } from '@atoll/protocol'
import { type IsTrusted, keptProvider, type Provider, providerFor, type SaidOfProvider } from '../gateway/providers.ts'
import type { Seal } from '../sandboxes/secrets.ts'
import { Secret } from '../secrets/secret.ts'
import type { Asker, Services } from './services.ts'
import type { ProviderKeyRecord, ServiceStore } from './store.ts'

/** What may be known of a key. */
export interface KnownKey extends Pick<ProviderKeyRecord, 'provider' | 'models' | 'lastFour' | 'createdAt' | 'lastUsedAt'> {
  readonly baseUrl: string
}

export interface NewProviderKey {
  readonly key: Secret
  readonly custom: SaidOfProvider
  readonly models: readonly string[]
}

export interface ProviderKeysParts {
  readonly services: Services
  readonly store: ServiceStore
  readonly seal: Seal
  readonly now: () => number
  readonly isTrusted: IsTrusted
  /** Called when what sandboxes of a service may use has changed. */
  readonly changed: (serviceId: number) => void
}

/** Four characters of a shorter key would be too much of it. */
const minLengthToShow = 16

export class ProviderKeys {
  readonly #parts: ProviderKeysParts

  constructor(parts: ProviderKeysParts) {
    this.#parts = parts
  }

  /** @throws Failure `service.not_found`, `auth.forbidden`, `provider.unknown`, `provider.invalid` */
  async set(asker: Asker, reference: string, id: string, { key, custom: said, models }: NewProviderKey): Promise<KnownKey> {
    const { services, store, seal, now, isTrusted, changed } = this.#parts
    const service = await services.own(asker, reference)
    const { custom } = providerFor(id, said, isTrusted)
    const text = key.reveal()
    const record = {
      serviceId: service.id,
      provider: id,
      custom,
      models,
      sealed: seal.seal(text, providerKeyContext(service.id, id)),
      lastFour: text.length < minLengthToShow ? '' : text.slice(-4),
      createdAt: now(),
      lastUsedAt: undefined,
    }
    await store.setKey(service, record, asker.owner)
    changed(service.id)
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
    const { services, store, changed } = this.#parts
    const service = await services.own(asker, reference)
    await store.removeKey(service, id, asker.owner)
    changed(service.id)
  }

  /**
   * The key itself, for the gateway alone, and what a sandbox of the owner may use it for.
   * @throws Failure `service.not_found` when the owner is not in the service any more, `provider.key_missing`, `provider.unknown`
   */
  async grant(caller: Inhabitant, id: string): Promise<{ provider: Provider; key: Secret; models: readonly string[] }> {
    const { services, store, seal } = this.#parts
    await services.modelQuotas(caller.serviceId, caller.owner)
    const record = await store.key(caller.serviceId, id)
    if (!record) throw await this.#missing(caller, id)
    const { custom, models, sealed } = record
    const key = new Secret(seal.open(sealed, providerKeyContext(caller.serviceId, id)))
    return { provider: keptProvider(id, custom), key, models }
  }

  /** The providers that sandboxes of a service have a key of. */
  async providers(serviceId: number): Promise<Provider[]> {
    return (await this.#parts.store.keys(serviceId)).map(({ provider, custom }) => keptProvider(provider, custom))
  }

  async #missing({ serviceId }: Inhabitant, id: string): Promise<Failure> {
    const set = (await this.#parts.store.keys(serviceId)).map(({ provider }) => provider)
    const has = set.length === 0 ? 'none' : set.join(', ')
    const name = id.slice(0, 64)
    const message = `Service ${serviceId} has no key of ${JSON.stringify(name)}; its owner sets one with atoll provider-key set ${name} --service ${serviceId}. It has: ${has}.`
    return new Failure('provider.key_missing', message)
  }
}

/** A sandbox by what counts here. */
export interface Inhabitant {
  readonly serviceId: number
  readonly owner: string
}

/** What a provider key is sealed for. */
export const providerKeyContext = (serviceId: number, provider: string): string => `service/${serviceId}/provider-key/${provider}`

const knownOf = ({ provider, custom, models, lastFour, createdAt, lastUsedAt }: ProviderKeyRecord): KnownKey => ({
  provider,
  baseUrl: keptProvider(provider, custom).baseUrl,
  models,
  lastFour,
  createdAt,
  lastUsedAt,
})
