// The audit log in SQLite.
import { type AuditDetail, AuditEntry, auditVias } from '@atoll/protocol'
import { SealedHead } from '../audit/head.ts'
import type { AuditFilter, AuditStore } from '../audit/store.ts'
import type { Database, Row } from './database.ts'

export function sqliteAudit(db: Database): AuditStore {
  const insert = (entry: AuditEntry): void => {
    db.run(
      `insert into audit (seq, at, actor_owner, actor_via, actor_id, action, subject, owner, outcome, client, count, detail_json, prev, hash)
       values (:seq, :at, :actorOwner, :actorVia, :actorId, :action, :subject, :owner, :outcome, :client, :count, :detail, :prev, :hash)`,
      rowOf(entry),
    )
  }
  return {
    append: async (entries, head, forgetUpTo) =>
      db.transaction(() => {
        for (const entry of entries) insert(entry)
        db.run(
          `insert into audit_head (one, seq, hash, key_id, mac) values (1, :seq, :hash, :keyId, :mac)
           on conflict (one) do update set seq = :seq, hash = :hash, key_id = :keyId, mac = :mac`,
          { ...head },
        )
        if (forgetUpTo !== undefined) db.run('delete from audit where seq <= :seq', { seq: forgetUpTo })
      }),
    list: async (filter) => {
      const { sql, values } = conditionOf(filter)
      return db.all(`select * from audit where ${sql} order by seq limit :limit`, { ...values, limit: filter.limit }).map(entryOf)
    },
    last: async () => {
      const row = db.one('select * from audit order by seq desc limit 1')
      return row && entryOf(row)
    },
    hashAt: async (seq) => {
      const row = db.one('select hash from audit where seq = :seq', { seq })
      return row && String(row['hash'])
    },
    head: async () => {
      const row = db.one('select seq, hash, key_id as keyId, mac from audit_head')
      return row && SealedHead.parse({ ...row })
    },
    due: async (before, most) => {
      // The first that is young enough ends it, whatever clock the later ones were written by.
      const row = db.one(
        `select max(seq) as seq from (select seq from audit
           where seq < coalesce((select seq from audit where at >= :before order by seq limit 1), (select max(seq) from audit))
           order by seq limit :most)`,
        { before, most },
      )
      if (row?.['seq'] === null || row === undefined) return undefined
      const upTo = Number(row['seq'])
      return { upTo, hash: String(db.one('select hash from audit where seq = :upTo', { upTo })?.['hash']) }
    },
  }
}

const rowOf = ({ actor, detail, ...rest }: AuditEntry): Row => ({
  seq: rest.seq,
  at: rest.at,
  actorOwner: actor.owner,
  actorVia: actor.via,
  actorId: actor.id,
  action: rest.action,
  subject: rest.subject,
  owner: rest.owner,
  outcome: rest.outcome,
  client: rest.client,
  count: rest.count,
  detail: JSON.stringify(detail),
  prev: rest.prev,
  hash: rest.hash,
})

/** As it is stored, whatever somebody made of it: a changed entry must be shown for what it is. */
function entryOf(row: Record<string, unknown>): AuditEntry {
  const text = (name: string): string => String(row[name])
  const via = auditVias.find((one) => one === row['actor_via']) ?? 'none'
  return {
    seq: Number(row['seq']),
    at: Number(row['at']),
    actor: { owner: text('actor_owner'), via, id: text('actor_id') },
    ...{ action: text('action'), subject: text('subject'), owner: text('owner'), outcome: text('outcome'), client: text('client') },
    count: Number(row['count']),
    detail: detailOf(text('detail_json')),
    ...{ prev: text('prev'), hash: text('hash') },
  }
}

function detailOf(text: string): AuditDetail {
  try {
    return AuditEntry.shape.detail.parse(JSON.parse(text))
  } catch {
    return {} // Its hash does not fit then, which tells more than an error would.
  }
}

function conditionOf({ owners, action, cursor }: AuditFilter): { sql: string; values: Row } {
  const terms = ['seq > :cursor']
  const values: Row = { cursor }
  for (const [index, owner] of owners.entries()) {
    terms.push(`(owner = :owner${index} or actor_owner = :owner${index})`)
    values[`owner${index}`] = owner
  }
  if (action !== undefined) {
    terms.push(action.includes('.') ? 'action = :action' : `action glob :action || '.*'`)
    values['action'] = action
  }
  return { sql: terms.join(' and '), values }
}

/** Number of the last event that was written; 0: none was. */
export const lastEvent = (db: Database): number => Number(db.one('select max(seq) as seq from events')?.['seq'] ?? 0)
