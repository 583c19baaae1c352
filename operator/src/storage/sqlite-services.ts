// Services and provider keys in SQLite.
import { ServiceQuotas, serviceModes } from '@atoll/protocol'
import { z } from 'zod'
import type { NewServiceRecord, ProviderKeyRecord, ServiceRecord, ServiceStore } from '../services/store.ts'
import type { Database } from './database.ts'
import { json, orUndefined } from './rows.ts'
import type { SqliteStore } from './sqlite-store.ts'

const ServiceRow = z
  .object({
    id: z.int(),
    owner: z.string(),
    name: z.string(),
    members_json: json(z.array(z.string())),
    mode: z.enum(serviceModes),
    quotas_json: json(ServiceQuotas),
    is_default: z.int(),
    created_at: z.int(),
  })
  .transform(
    ({ members_json: members, quotas_json: quotas, is_default: isDefault, created_at: createdAt, ...rest }): ServiceRecord => ({
      ...rest,
      members,
      quotas,
      isDefault: isDefault === 1,
      createdAt,
    }),
  )

const KeyRow = z
  .object({
    service_id: z.int(),
    provider: z.string(),
    custom_json: orUndefined(json(z.object({ baseUrl: z.string(), like: z.string() }))),
    models_json: json(z.array(z.string())),
    kind: z.enum(['key', 'oauth']),
    sealed: z.string(),
    last_four: z.string(),
    created_at: z.int(),
    last_used_at: orUndefined(z.int()),
  })
  .transform(
    (row): ProviderKeyRecord => ({
      serviceId: row.service_id,
      provider: row.provider,
      custom: row.custom_json,
      models: row.models_json,
      kind: row.kind,
      sealed: row.sealed,
      lastFour: row.last_four,
      createdAt: row.created_at,
      lastUsedAt: row.last_used_at,
    }),
  )

const service = (row: Record<string, unknown> | undefined): ServiceRecord | undefined => row && ServiceRow.parse(row)

type Events = Pick<SqliteStore, 'write'>

/** @param events where events are written, in the same database */
export const sqliteServices = (db: Database, events: Events): ServiceStore => ({ ...services(db, events), ...providerKeys(db, events) })

type KeyMethods = 'setKey' | 'key' | 'keys' | 'replaceSealed' | 'removeKey'

const inserter =
  (db: Database, events: Events) =>
  (made: NewServiceRecord, isDefault: boolean, by: string): ServiceRecord =>
    events.write((event) => {
      const { name, owner, mode, members, quotas } = made
      const { id } = db.run(
        `insert into services (owner, name, members_json, mode, quotas_json, is_default, created_at)
         values (:owner, :name, :members, :mode, :quotas, :is_default, :created)`,
        {
          owner,
          name,
          members: JSON.stringify(members),
          mode,
          quotas: JSON.stringify(quotas),
          is_default: isDefault ? 1 : 0,
          created: made.createdAt,
        },
      )
      event(owner, { type: 'service.created', data: { service_id: id, by, name, mode, members, quotas } })
      return { ...made, id, isDefault }
    })

function services(db: Database, events: Events): Omit<ServiceStore, KeyMethods> {
  const get = (id: number): ServiceRecord | undefined => service(db.one('select * from services where id = :id', { id }))
  const findDefault = (owner: string): ServiceRecord | undefined =>
    service(db.one('select * from services where owner = :owner and is_default = 1', { owner }))
  const insert = inserter(db, events)
  return {
    get: async (id) => get(id),
    // Nothing else runs between the look and the insertion.
    findOrInsertDefault: async (fresh, by) => findDefault(fresh.owner) ?? insert(fresh, true, by),
    insert: async (made, by) => insert(made, findDefault(made.owner) === undefined, by),
    list: async (person) => {
      const whose = `where owner = :person or exists (select 1 from json_each(members_json) where value = :person)`
      const rows =
        person === undefined
          ? db.all('select * from services order by id')
          : db.all(`select * from services ${whose} order by id`, { person })
      return rows.map((row) => ServiceRow.parse(row))
    },
    update: async (id, change, by) =>
      events.write((event) => {
        const current = get(id)
        if (!current) return undefined
        const next = { ...current, ...change }
        db.run('update services set name = :name, members_json = :members, quotas_json = :quotas where id = :id', {
          id,
          name: next.name,
          members: JSON.stringify(next.members),
          quotas: JSON.stringify(next.quotas),
        })
        event(current.owner, { type: 'service.changed', data: { service_id: id, by, ...change } })
        return next
      }),
    remove: async ({ id, owner }, by) =>
      events.write((event) => {
        if (db.one(`select 1 from sandboxes where service_id = :id and state != 'ended' limit 1`, { id })) return false
        const { changes } = db.run('delete from services where id = :id', { id })
        if (changes === 1) event(owner, { type: 'service.removed', data: { service_id: id, by } })
        return true
      }),
  }
}

function providerKeys(db: Database, events: Events): Pick<ServiceStore, KeyMethods> {
  return {
    setKey: async ({ owner }, key, by) =>
      events.write((event) => {
        db.run(
          `insert into provider_keys (service_id, provider, custom_json, models_json, kind, sealed, last_four, created_at)
           values (:service, :provider, :custom, :models, :kind, :sealed, :last_four, :created)
           on conflict (service_id, provider) do update set custom_json = :custom, models_json = :models, kind = :kind, sealed = :sealed, last_four = :last_four,
             created_at = :created, last_used_at = null`,
          {
            service: key.serviceId,
            provider: key.provider,
            custom: key.custom ? JSON.stringify(key.custom) : null,
            models: JSON.stringify(key.models),
            kind: key.kind,
            sealed: key.sealed,
            last_four: key.lastFour,
            created: key.createdAt,
          },
        )
        event(owner, { type: 'service.provider_key_set', data: { service_id: key.serviceId, by, provider: key.provider } })
      }),
    key: async (serviceId, provider) => {
      const row = db.one('select * from provider_keys where service_id = :service and provider = :provider', {
        service: serviceId,
        provider,
      })
      return row && KeyRow.parse(row)
    },
    keys: async (serviceId) =>
      db
        .all('select * from provider_keys where service_id = :service order by provider', { service: serviceId })
        .map((row) => KeyRow.parse(row)),
    replaceSealed: async ({ serviceId, provider, createdAt }, sealed) => {
      const { changes } = db.run(
        'update provider_keys set sealed = :sealed where service_id = :service and provider = :provider and created_at = :created',
        { sealed, service: serviceId, provider, created: createdAt },
      )
      return changes === 1
    },
    removeKey: async ({ id, owner }, provider, by) =>
      events.write((event) => {
        const values = { service: id, provider }
        const { changes } = db.run('delete from provider_keys where service_id = :service and provider = :provider', values)
        if (changes === 1) event(owner, { type: 'service.provider_key_removed', data: { service_id: id, by, provider } })
      }),
  }
}
