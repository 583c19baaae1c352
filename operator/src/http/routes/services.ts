import { type AuditDetail, Failure, type ProviderKey, type RouteRequest, type Service, type serviceRoutes } from '@atoll/protocol'
import { type Caller, canonicalOwner } from '../../auth/caller.ts'
import { Secret } from '../../secrets/secret.ts'
import type { Login } from '../../services/oauth-logins.ts'
import type { KnownKey, ProviderKeys } from '../../services/provider-keys.ts'
import type { Asker, Services } from '../../services/services.ts'
import type { ServiceRecord } from '../../services/store.ts'
import type { Handlers } from '../call.ts'
import type { Note } from '../trail.ts'

export interface ServiceParts {
  readonly services: Services
  readonly providerKeys: ProviderKeys
}

const seconds = (ms: number): number => Math.floor(ms / 1000)

const shownService = ({ isDefault, createdAt, members, ...rest }: ServiceRecord): Service => ({
  ...rest,
  members: [...members],
  is_default: isDefault,
  created_at: seconds(createdAt),
})

const shownKey = ({ provider, baseUrl, models, kind, lastFour, createdAt, lastUsedAt }: KnownKey): ProviderKey => ({
  provider,
  base_url: baseUrl,
  models: [...models],
  kind,
  last_four: lastFour,
  created_at: seconds(createdAt),
  last_used_at: lastUsedAt === undefined ? null : seconds(lastUsedAt),
})

/** @throws Failure `request.invalid` when it is not just one of both */
function credentialOf({ key, oauth }: RouteRequest<typeof serviceRoutes.setProviderKey>['body']): Secret | Login {
  if (key !== undefined && oauth === undefined) return new Secret(key)
  if (key !== undefined || oauth === undefined) throw new Failure('request.invalid', 'Give either key or oauth.')
  const { refresh_token: refreshToken, token_url: tokenUrl, client_id: clientId, format, access_token: accessToken, expires_at: at } = oauth
  return { refreshToken, tokenUrl, clientId, format, accessToken, expiresAt: at === undefined ? undefined : at * 1000 }
}

const askerOf = ({ owner, scope }: Caller): Asker => ({ owner, isAdmin: scope === 'admin' })

/** Tells the audit log which service it is, since `default` is another one for everybody, and its owner of what others do with it. */
const noteOf = ({ id, owner }: ServiceRecord, detail: AuditDetail = {}): Note => ({ subject: `service-${id}`, owner, detail })

const changeOf = ({ name, members, quotas }: { name?: unknown; members?: unknown; quotas?: object | undefined }): AuditDetail => ({
  changed: [...(name === undefined ? [] : ['name']), ...(members === undefined ? [] : ['members']), ...Object.keys(quotas ?? {})],
})

export const serviceHandlers = ({ services, providerKeys }: ServiceParts): Handlers<typeof serviceRoutes> => ({
  create: async ({ request: { body }, caller, note }) => {
    const owner = canonicalOwner(body.owner ?? caller.owner)
    const made = await services.create(askerOf(caller), { ...body, owner, members: body.members.map(canonicalOwner) })
    note(noteOf(made))
    return shownService(made)
  },
  list: async ({ caller }) => ({ services: (await services.list(askerOf(caller))).map(shownService) }),
  get: async ({ request: { params }, caller }) => shownService(await services.get(askerOf(caller), params.sid)),
  update: async ({ request: { params, body }, caller, note }) => {
    note(noteOf(await services.get(askerOf(caller), params.sid), changeOf(body)))
    const change = { ...body, members: body.members?.map(canonicalOwner) }
    return shownService(await services.update(askerOf(caller), params.sid, change))
  },
  remove: async ({ request: { params }, caller, note }) => {
    note(noteOf(await services.get(askerOf(caller), params.sid)))
    await services.remove(askerOf(caller), params.sid)
    return { deleted: true }
  },
  listProviderKeys: async ({ request: { params }, caller, note }) => {
    note(noteOf(await services.get(askerOf(caller), params.sid)))
    return { provider_keys: (await providerKeys.list(askerOf(caller), params.sid)).map(shownKey) }
  },
  getProviderKey: async ({ request: { params }, caller, note }) => {
    note(noteOf(await services.get(askerOf(caller), params.sid)))
    return shownKey(await providerKeys.get(askerOf(caller), params.sid, params.provider))
  },
  setProviderKey: async ({ request: { params, body }, caller, note }) => {
    note(noteOf(await services.get(askerOf(caller), params.sid)))
    const custom = { baseUrl: body.base_url, like: body.like }
    return shownKey(
      await providerKeys.set(askerOf(caller), params.sid, params.provider, { key: credentialOf(body), custom, models: body.models }),
    )
  },
  removeProviderKey: async ({ request: { params }, caller, note }) => {
    note(noteOf(await services.get(askerOf(caller), params.sid)))
    await providerKeys.remove(askerOf(caller), params.sid, params.provider)
    return { deleted: true }
  },
})
