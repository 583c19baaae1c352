import { z } from 'zod'
import { route } from './route.ts'

export const keyScopes = ['owner', 'read', 'admin'] as const

/** An API key as it can be listed; the key itself is shown once, when it is made. Times are unix seconds. */
export const ApiKey = z
  .object({
    id: z.string(),
    name: z.string(),
    scope: z.enum(keyScopes),
    owner: z.string(),
    created_at: z.int(),
    last_used_at: z.int().nullable(),
    expires_at: z.int().nullable(),
    /** The key that it was made with, which takes it with it when it is revoked, unless it was an admin's for another owner. */
    made_by: z.string().nullable(),
  })
  .meta({ id: 'ApiKey' })
export type ApiKey = z.infer<typeof ApiKey>

const SessionToken = z.object({ token: z.string(), address: z.string(), expires_at: z.int() })

export const authRoutes = {
  challenge: route({
    method: 'POST',
    path: '/api/auth/challenge',
    summary: 'Get a text to sign with a wallet.',
    access: 'public',
    tier: 'auth',
    body: z.object({ address: z.string().max(128).optional() }).default({}),
    response: z.object({ nonce: z.string(), message: z.string(), expires_at: z.int() }),
  }),
  session: route({
    method: 'POST',
    path: '/api/auth/session',
    summary: 'Trade a signed challenge for a session token.',
    audit: 'auth.sign_in',
    access: 'public',
    tier: 'auth',
    body: z.object({ nonce: z.string().max(256), signature: z.string().max(512) }),
    response: SessionToken,
  }),
  signInLink: route({
    method: 'POST',
    path: '/api/auth/link',
    summary: 'Trade the one-time code of a sign-in link for a session token.',
    audit: 'auth.sign_in',
    access: 'public',
    tier: 'auth',
    body: z.object({ code: z.string().max(256) }),
    response: SessionToken,
  }),
  revoke: route({
    method: 'DELETE',
    path: '/api/auth/session',
    summary: 'Revoke the session token that the request carries.',
    audit: 'auth.sign_out',
    access: 'public',
    tier: 'auth',
    response: z.object({ revoked: z.boolean(), message: z.string().optional() }),
  }),
  createKey: route({
    method: 'POST',
    path: '/api/keys',
    summary: 'Make an API key. Its text is in this answer and nowhere else.',
    audit: 'key.create',
    access: 'write',
    tier: 'write',
    body: z.object({
      name: z.string().max(128).default(''),
      scope: z.enum(keyScopes).default('owner'),
      /** Only an admin may make a key for somebody else. */
      owner: z.string().min(1).max(128).optional(),
      ttl_seconds: z.int().min(60).max(315_360_000).optional(),
    }),
    status: 201,
    response: ApiKey.extend({ key: z.string() }),
  }),
  listKeys: route({
    method: 'GET',
    path: '/api/keys',
    summary: 'List your API keys.',
    access: 'read',
    tier: 'read',
    response: z.object({ keys: z.array(ApiKey) }),
  }),
  revokeKey: route({
    method: 'DELETE',
    path: '/api/keys/{key_id}',
    summary: 'Revoke an API key at once.',
    audit: 'key.revoke',
    access: 'write',
    tier: 'write',
    response: z.object({ deleted: z.literal(true) }),
  }),
  rotateSealingKey: route({
    method: 'POST',
    path: '/api/sealing-key/rotate',
    summary: 'Make a new key that seals secrets, and seal all of them again. Every session and preview link ends.',
    audit: 'sealing_key.rotate',
    access: 'admin',
    tier: 'write',
    response: z.object({
      key_id: z.string(),
      resealed: z.int(),
      /** Texts that no key of the operator opens; they stay as they are. */
      unreadable: z.int(),
    }),
  }),
}
