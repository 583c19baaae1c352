// API keys and revoked sessions in SQLite.
import { keyScopes } from '@atoll/protocol'
import { z } from 'zod'
import type { ApiKeyRecord, ApiKeyStore } from '../auth/api-keys.ts'
import type { SessionStore } from '../auth/session.ts'
import type { Database } from './database.ts'

const orUndefined = z
  .int()
  .nullable()
  .transform((value) => value ?? undefined)

const KeyRow = z
  .object({
    id: z.string(),
    hash: z.string(),
    name: z.string(),
    scope: z.enum(keyScopes),
    owner: z.string(),
    created_at: z.int(),
    last_used_at: orUndefined,
    expires_at: orUndefined,
    made_by: z
      .string()
      .nullable()
      .transform((value) => value ?? undefined),
  })
  .transform(
    ({ created_at: createdAt, last_used_at: lastUsedAt, expires_at: expiresAt, made_by: madeBy, ...rest }): ApiKeyRecord => ({
      ...rest,
      createdAt,
      lastUsedAt,
      expiresAt,
      madeBy,
    }),
  )

export const sqliteApiKeys = (db: Database): ApiKeyStore => ({
  insert: async (key) => {
    db.run(
      `insert into api_keys (id, hash, name, scope, owner, created_at, last_used_at, expires_at, made_by)
       values (:id, :hash, :name, :scope, :owner, :created, :used, :expires, :made_by)`,
      {
        id: key.id,
        hash: key.hash,
        name: key.name,
        scope: key.scope,
        owner: key.owner,
        created: key.createdAt,
        used: key.lastUsedAt ?? null,
        expires: key.expiresAt ?? null,
        made_by: key.madeBy ?? null,
      },
    )
  },
  get: async (id) => {
    const row = db.one('select * from api_keys where id = :id', { id })
    return row && KeyRow.parse(row)
  },
  findByHash: async (hash) => {
    const row = db.one('select * from api_keys where hash = :hash', { hash })
    return row && KeyRow.parse(row)
  },
  list: async (owner) => {
    const rows =
      owner === undefined
        ? db.all('select * from api_keys order by created_at desc, id')
        : db.all('select * from api_keys where owner = :owner order by created_at desc, id', { owner })
    return rows.map((row) => KeyRow.parse(row))
  },
  madeBy: async (id) => db.all('select * from api_keys where made_by = :id', { id }).map((row) => KeyRow.parse(row)),
  remove: async (id) => {
    db.run('delete from api_keys where id = :id', { id })
  },
  setLastUsed: async (id, at) => {
    db.run('update api_keys set last_used_at = :at where id = :id', { id, at })
  },
})

export const sqliteSessions = (db: Database): SessionStore => ({
  isRevoked: async (id) => db.one('select 1 as found from revoked_sessions where id = :id', { id }) !== undefined,
  revoke: async (id, expiresAt) => {
    db.run('insert into revoked_sessions (id, expires_at) values (:id, :expires) on conflict (id) do nothing', { id, expires: expiresAt })
  },
  prune: async (now) => {
    db.run('delete from revoked_sessions where expires_at < :now', { now })
  },
})
