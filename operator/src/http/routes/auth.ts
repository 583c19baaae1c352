import type { ApiKey, authRoutes } from '@atoll/protocol'
import type { ApiKeyRecord } from '../../auth/api-keys.ts'
import type { Auth, SignedIn } from '../../auth/auth.ts'
import type { KeyRotation } from '../../secrets/rotation.ts'
import type { Handlers } from '../call.ts'
import type { RateLimits } from '../limits.ts'
import type { Note } from '../trail.ts'

const seconds = (ms: number): number => Math.floor(ms / 1000)
const secondsOrNull = (ms: number | undefined): number | null => (ms === undefined ? null : seconds(ms))

const shownKey = (key: ApiKeyRecord): ApiKey => ({
  id: key.id,
  name: key.name,
  scope: key.scope,
  owner: key.owner,
  created_at: seconds(key.createdAt),
  last_used_at: secondsOrNull(key.lastUsedAt),
  expires_at: secondsOrNull(key.expiresAt),
  made_by: key.madeBy ?? null,
})

const shownSession = ({ token, session }: SignedIn) => ({
  token: token.reveal(),
  address: session.owner,
  expires_at: seconds(session.expiresAt),
})

const noteOf = ({ session: { id, owner, scope } }: SignedIn, by: string): Note => ({
  actor: { owner, via: 'session', id },
  detail: { by, scope },
})

export interface AuthParts {
  readonly auth: Auth
  readonly limits: RateLimits
  readonly rotation: KeyRotation
}

export const authHandlers = ({ auth, limits, rotation }: AuthParts): Handlers<typeof authRoutes> => ({
  challenge: async ({ request: { body }, incoming }) => {
    const { nonce, message, expiresAt } = auth.challenge({ address: body.address, client: limits.clientOf(incoming) })
    return { nonce, message, expires_at: seconds(expiresAt) }
  },
  session: async ({ request: { body }, note }) => {
    const signedIn = await auth.signIn(body)
    note(noteOf(signedIn, 'wallet'))
    return shownSession(signedIn)
  },
  signInLink: async ({ request: { body }, note }) => {
    const signedIn = await auth.signInByLink(body.code)
    note(noteOf(signedIn, 'link'))
    return shownSession(signedIn)
  },
  revoke: async ({ incoming, note }) => {
    const revoked = await auth.signOut(incoming.headers.authorization)
    note({ detail: { revoked } })
    return revoked ? { revoked } : { revoked, message: 'Token not found in session store' }
  },
  createKey: async ({ request: { body }, caller, note }) => {
    const ttlMs = body.ttl_seconds === undefined ? undefined : body.ttl_seconds * 1000
    const { key, record } = await auth.createKey(caller, { name: body.name, scope: body.scope, owner: body.owner, ttlMs })
    note({ subject: record.id, owner: record.owner, detail: { scope: record.scope } })
    return { ...shownKey(record), key: key.reveal() }
  },
  listKeys: async ({ caller }) => ({ keys: (await auth.listKeys(caller)).map(shownKey) }),
  revokeKey: async ({ request: { params }, caller, note }) => {
    const { owner } = await auth.revokeKey(caller, params.key_id)
    note({ subject: params.key_id, owner })
    return { deleted: true }
  },
  rotateSealingKey: async ({ caller, note }) => {
    const { keyId, resealed, unreadable } = await rotation.rotate(caller.owner)
    note({ subject: keyId, detail: { resealed, unreadable } })
    return { key_id: keyId, resealed, unreadable }
  },
})
