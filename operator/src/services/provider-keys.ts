// The keys of model providers: sealed in the store, shown to nobody again.
import { Failure } from '@atoll/protocol'
import { checkedUrl, type IsTrusted, keptProvider, type Provider, providerFor, type SaidOfProvider } from '../gateway/providers.ts'
import type { Seal } from '../sandboxes/secrets.ts'
import { Secret } from '../secrets/secret.ts'
import { type Login, loginText, type OAuthLogins } from './oauth-logins.ts'
import type { Asker, Services } from './services.ts'
import type { ProviderKeyRecord, ServiceStore } from './store.ts'

/** What may be known of a key. */
export interface KnownKey extends Pick<ProviderKeyRecord, 'provider' | 'models' | 'kind' | 'lastFour' | 'createdAt' | 'lastUsedAt'> {
  readonly baseUrl: string
}

export interface NewProviderKey {
  /** A key, or a login. */
  readonly key: Secret | Login
  readonly custom: SaidOfProvider
  readonly models: readonly string[]
}

export interface ProviderKeysParts {
  readonly services: Services
  readonly store: ServiceStore
  readonly seal: Seal
  readonly now: () => number
  readonly logins: OAuthLogins
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
    const isKey = key instanceof Secret
    const text = isKey ? key.reveal() : loginText({ ...key, tokenUrl: checkedUrl(key.tokenUrl, isTrusted) })
    const shown = isKey ? text : key.refreshToken
    const record = {
      serviceId: service.id,
      provider: id,
      custom,
      models,
      kind: isKey ? ('key' as const) : ('oauth' as const),
      sealed: seal.seal(text, providerKeyContext(service.id, id)),
      lastFour: shown.length < minLengthToShow ? '' : shown.slice(-4),
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
   * @throws Failure `service.not_found` when the owner is not in the service any more, `provider.key_missing`, `provider.unknown`,
   * `provider.login_expired`, `provider.unreachable`
   */
  async grant(caller: Inhabitant, id: string): Promise<Granted> {
    const { services, store, seal, logins } = this.#parts
    await services.modelQuotas(caller.serviceId, caller.owner)
    const record = await store.key(caller.serviceId, id)
    if (!record) throw await this.#missing(caller, id)
    const { custom, models, sealed, kind } = record
    const provider = keptProvider(id, custom)
    const context = providerKeyContext(caller.serviceId, id)
    if (kind === 'key') return { provider, key: new Secret(seal.open(sealed, context)), models, login: undefined }
    return { provider, key: await logins.accessToken(record, context), models, login: { refused: () => logins.refused(context) } }
  }

  async has(serviceId: number): Promise<boolean> {
    return (await this.#parts.store.keys(serviceId)).length > 0
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

/** What a sandbox may use of a provider. */
export interface Granted {
  readonly provider: Provider
  readonly key: Secret
  readonly models: readonly string[]
  /** Where the key is the token of a login: is told when the provider does not take it. */
  readonly login: { refused(): void } | undefined
}

/** A sandbox by what counts here. */
export interface Inhabitant {
  readonly serviceId: number
  readonly owner: string
}

/** What a provider key is sealed for. */
export const providerKeyContext = (serviceId: number, provider: string): string => `service/${serviceId}/provider-key/${provider}`

const knownOf = ({ provider, custom, models, kind, lastFour, createdAt, lastUsedAt }: ProviderKeyRecord): KnownKey => ({
  provider,
  baseUrl: keptProvider(provider, custom).baseUrl,
  models,
  kind,
  lastFour,
  createdAt,
  lastUsedAt,
})
