// Snapshots and forks in SQLite.
import { EgressPolicy, RuntimeName } from '@atoll/protocol'
import { z } from 'zod'
import type { SnapshotRecord, SnapshotStore } from '../sandboxes/snapshot-store.ts'
import type { Database, Row } from './database.ts'
import { json, orUndefined } from './rows.ts'
import type { SqliteStore } from './sqlite-store.ts'

const Template = z.object({
  runtime: RuntimeName,
  image: z.string(),
  agentIdentifier: z.string(),
  cpuCores: z.number(),
  memoryMb: z.int(),
  diskGb: z.int(),
  ports: z.array(z.int()),
  metadata: z.record(z.string(), z.unknown()),
  capabilities: z.array(z.string()),
  bytes: z.int(),
  egress: EgressPolicy.optional().transform((policy): EgressPolicy | undefined => policy),
})

const SnapshotRow = z.object({
  id: z.string(),
  owner: z.string(),
  sandbox_id: z.string(),
  service_id: z.int(),
  name: z.string(),
  state: z.enum(['creating', 'ready', 'failed']),
  error_json: orUndefined(json(z.object({ code: z.string(), message: z.string() }))),
  template_json: json(Template),
  key_sealed: z.string(),
  size_bytes: z.int(),
  created_at: z.int(),
})

function toSnapshot(raw: Record<string, unknown>): SnapshotRecord {
  const row = SnapshotRow.parse(raw)
  return {
    id: row.id,
    owner: row.owner,
    sandboxId: row.sandbox_id,
    serviceId: row.service_id,
    name: row.name,
    state: row.state,
    error: row.error_json,
    template: { ...row.template_json, egress: row.template_json.egress },
    keySealed: row.key_sealed,
    sizeBytes: row.size_bytes,
    createdAt: row.created_at,
  }
}

const toRow = (snapshot: SnapshotRecord): Row => ({
  id: snapshot.id,
  owner: snapshot.owner,
  sandbox: snapshot.sandboxId,
  service: snapshot.serviceId,
  name: snapshot.name,
  state: snapshot.state,
  template: JSON.stringify(snapshot.template),
  sealed: snapshot.keySealed,
  size: snapshot.sizeBytes,
  at: snapshot.createdAt,
})

const ForkRow = z.object({ id: z.string(), sandbox_id: z.string(), made_json: json(z.array(z.string())) })

/** @param events where events are written, in the same database */
export function sqliteSnapshots(db: Database, events: Pick<SqliteStore, 'write'>): SnapshotStore {
  const told = ({ id, sandboxId }: SnapshotRecord) => ({ snapshot_id: id, of: sandboxId })
  return {
    insert: async (snapshot, key) =>
      events.write((event) => {
        db.run(
          `insert into snapshots (id, owner, sandbox_id, service_id, name, state, template_json, key_sealed, size_bytes, created_at,
             idempotency_key, fingerprint)
           values (:id, :owner, :sandbox, :service, :name, :state, :template, :sealed, :size, :at, :key, :fingerprint)`,
          {
            ...toRow(snapshot),
            key: key?.key ?? null,
            fingerprint: key?.fingerprint ?? null,
          },
        )
        event(snapshot.owner, { type: 'snapshot.creating', data: told(snapshot) })
      }),
    findIdempotent: async (owner, key) => {
      const row = db.one('select id, fingerprint from snapshots where owner = :owner and idempotency_key = :key', { owner, key })
      return row && { id: String(row['id']), fingerprint: String(row['fingerprint']) }
    },
    get: async (id) => {
      const row = db.one('select * from snapshots where id = :id', { id })
      return row && toSnapshot(row)
    },
    list: async ({ owner, sandboxId, state, limit, after }) =>
      db
        .all(
          `select * from snapshots
            where (:owner is null or owner = :owner) and (:sandbox is null or sandbox_id = :sandbox) and (:state is null or state = :state)
              and (:at is null or (created_at, id) < (:at, :id))
            order by created_at desc, id desc limit :limit`,
          {
            owner: owner ?? null,
            sandbox: sandboxId ?? null,
            state: state ?? null,
            at: after?.createdAt ?? null,
            id: after?.id ?? null,
            limit: limit ?? -1,
          },
        )
        .map(toSnapshot),
    count: async (owner) => Number(db.one('select count(*) as count from snapshots where owner = :owner', { owner })?.['count'] ?? 0),
    finish: async (snapshot, { state, error, sizeBytes }) =>
      events.write((event) => {
        db.run(
          `update snapshots set state = :state, error_json = :error, size_bytes = :size,
             idempotency_key = case when :state = 'failed' then null else idempotency_key end where id = :id`,
          { id: snapshot.id, state, error: error ? JSON.stringify(error) : null, size: sizeBytes },
        )
        event(snapshot.owner, { type: `snapshot.${state}`, data: { ...told(snapshot), ...(error && { code: error.code }) } })
      }),
    remove: async (snapshot) =>
      events.write((event) => {
        const { changes } = db.run('delete from snapshots where id = :id', { id: snapshot.id })
        if (changes === 1) event(snapshot.owner, { type: 'snapshot.deleted', data: told(snapshot) })
      }),
    openFork: async ({ id, sandboxId, madeIds }) =>
      void db.run('insert into forks (id, sandbox_id, made_json) values (:id, :sandbox, :made)', {
        id,
        sandbox: sandboxId,
        made: JSON.stringify(madeIds),
      }),
    closeFork: async (id) => void db.run('delete from forks where id = :id', { id }),
    forks: async () =>
      db.all('select * from forks').map((raw) => {
        const row = ForkRow.parse(raw)
        return { id: row.id, sandboxId: row.sandbox_id, madeIds: row.made_json }
      }),
  }
}
