import { z } from 'zod'
import { route } from './route.ts'

/** `cloud`: many sandboxes; `instance`: one; `tee-instance`: one, in a confidential machine. */
export const serviceModes = ['cloud', 'instance', 'tee-instance'] as const

const limit = z.number().min(0).max(1_000_000_000)
const wholeLimit = z.int().min(0).max(1_000_000_000_000)

/** What a service may take in all; 0 means as much as the operator has. */
export const ServiceQuotas = z
  .object({
    sandboxes: wholeLimit,
    cpu_cores: limit,
    memory_mb: wholeLimit,
    disk_gb: wholeLimit,
    /** Agent runs at once. */
    runs: wholeLimit,
    /** Calls of models; a day begins at midnight UTC. */
    requests_per_day: wholeLimit,
    tokens_per_day: wholeLimit,
    spend_per_day_usd: limit,
  })
  .meta({ id: 'ServiceQuotas' })
export type ServiceQuotas = z.infer<typeof ServiceQuotas>

/** The tenant boundary: provider keys, quotas and members belong to it. Times are unix seconds. */
export const Service = z
  .object({
    id: z.int(),
    name: z.string(),
    owner: z.string(),
    /** May make sandboxes in it, and may not change it. */
    members: z.array(z.string()),
    mode: z.enum(serviceModes),
    /** Sandboxes that its owner makes without naming a service belong to this one. */
    is_default: z.boolean(),
    quotas: ServiceQuotas,
    created_at: z.int(),
  })
  .meta({ id: 'Service' })
export type Service = z.infer<typeof Service>

/** A provider key as it can be listed; the key itself is never shown. Times are unix seconds. */
export const ProviderKey = z
  .object({
    provider: z.string(),
    /** Where calls with it go. */
    base_url: z.string(),
    /** Models that may be asked for, `*` standing for anything; empty: every one. */
    models: z.array(z.string()),
    /** A key, or a login that the operator refreshes. */
    kind: z.enum(['key', 'oauth']),
    /** Of the key; empty when it is so short that they would give it away. */
    last_four: z.string(),
    created_at: z.int(),
    /** Null: never. */
    last_used_at: z.int().nullable(),
  })
  .meta({ id: 'ProviderKey' })
export type ProviderKey = z.infer<typeof ProviderKey>

const ProviderSecret = z.string().regex(/^[\x21-\x7e]{8,4096}$/, 'a key is 8 to 4096 printable characters without spaces')

/** A login at a provider. The operator alone refreshes it, so that it lasts, whoever uses it. */
const OAuthLogin = z.object({
  refresh_token: ProviderSecret,
  /** Where it is refreshed: an https address. */
  token_url: z.string().max(2048),
  client_id: z.string().min(1).max(256),
  /** How the request for a new token is written. */
  format: z.enum(['form', 'json']).default('form'),
  access_token: ProviderSecret.optional(),
  /** Of the access token, in unix seconds; without it, a new one is fetched at once. */
  expires_at: z.int().min(0).optional(),
})

const Name = z.string().trim().min(1).max(128)
const Members = z.array(z.string().min(1).max(128)).max(256, 'at most 256 members')
const one = '/api/services/{sid}'
const keys = `${one}/provider-keys` as const
const key = `${keys}/{provider}` as const

/** `{sid}` is the number of a service, or `default` for the caller's own default service. */
export const serviceRoutes = {
  create: route({
    method: 'POST',
    path: '/api/services',
    summary: 'Make a service for an owner. The first of an owner is the default of that owner.',
    audit: 'service.create',
    access: 'admin',
    tier: 'write',
    body: z.object({
      name: Name,
      /** The caller when not given. */
      owner: z.string().min(1).max(128).optional(),
      members: Members.default([]),
      mode: z.enum(serviceModes).default('cloud'),
      quotas: ServiceQuotas.partial().default({}),
    }),
    status: 201,
    response: Service,
  }),
  list: route({
    method: 'GET',
    path: '/api/services',
    summary: 'List the services that you own or are a member of, oldest first.',
    access: 'read',
    tier: 'read',
    response: z.object({ services: z.array(Service) }),
  }),
  get: route({ method: 'GET', path: one, summary: 'Read one service.', access: 'read', tier: 'read', response: Service }),
  update: route({
    method: 'PATCH',
    path: one,
    summary: 'Change the name, members or quotas of a service. Its owner may lower a quota; only an admin may raise one.',
    audit: 'service.change',
    access: 'write',
    tier: 'write',
    body: z.object({ name: Name.optional(), members: Members.optional(), quotas: ServiceQuotas.partial().optional() }),
    response: Service,
  }),
  remove: route({
    method: 'DELETE',
    path: one,
    summary: 'Remove a service that has no sandboxes, and its provider keys.',
    audit: 'service.remove',
    access: 'admin',
    tier: 'write',
    response: z.object({ deleted: z.literal(true) }),
  }),
  listProviderKeys: route({
    method: 'GET',
    path: keys,
    summary: 'List the provider keys of a service. The keys themselves are never shown.',
    audit: 'provider_key.read',
    access: 'read',
    tier: 'read',
    response: z.object({ provider_keys: z.array(ProviderKey) }),
  }),
  getProviderKey: route({
    method: 'GET',
    path: key,
    summary: 'Say what is known of a provider key. The key itself is never shown.',
    audit: 'provider_key.read',
    access: 'read',
    tier: 'read',
    response: ProviderKey,
  }),
  setProviderKey: route({
    method: 'PUT',
    path: key,
    summary: 'Set or replace the key of a provider. It is sealed and cannot be read back.',
    audit: 'provider_key.set',
    access: 'write',
    tier: 'write',
    body: z.object({
      /** The key, or else `oauth`. */
      key: ProviderSecret.optional(),
      oauth: OAuthLogin.optional(),
      /** Of a provider called `custom:<name>`: an https address. */
      base_url: z.string().max(2048).optional(),
      /** Of a provider called `custom:<name>`: the known provider whose API it speaks. */
      like: z.string().max(64).optional(),
      /** Models that sandboxes may ask for, `*` standing for anything; empty: every one. */
      models: z
        .array(z.string().regex(/^[\x21-\x7e]{1,200}$/, 'a model is 1 to 200 printable characters'))
        .max(100)
        .default([]),
    }),
    response: ProviderKey,
  }),
  removeProviderKey: route({
    method: 'DELETE',
    path: key,
    summary: 'Remove the key of a provider. Safe to repeat.',
    audit: 'provider_key.remove',
    access: 'write',
    tier: 'write',
    response: z.object({ deleted: z.literal(true) }),
  }),
}
