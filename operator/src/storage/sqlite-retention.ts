// What is forgotten, a piece at a time, so that nobody waits long for the database meanwhile.
import type { Due } from '../sandboxes/store.ts'
import type { Database, Row } from './database.ts'

const pieceRows = 5000

/** Readers whose cursor lies before the last event of theirs that was forgotten are told so. */
function forgetEvents(db: Database, where: string, values: Row): number {
  const piece = `select seq, owner from events where ${where} order by seq limit ${pieceRows}`
  db.run(
    `insert into forgotten_events (owner, seq) select owner, max(seq) from (${piece}) where true group by owner
       on conflict (owner) do update set seq = max(seq, excluded.seq)`,
    values,
  )
  return db.run(`delete from events where seq in (select seq from (${piece}))`, values).changes
}

function forgetOldEvents(db: Database, before: number): number {
  const kept = db.one('select seq from events where at >= :before order by seq limit 1', { before })
  return forgetEvents(db, 'seq < :kept', { kept: kept ? Number(kept['seq']) : Number.MAX_SAFE_INTEGER })
}

function forgetManyEvents(db: Database, most: number): number {
  let count = 0
  for (const { owner } of db.all('select owner from events group by owner having count(*) > :most', { most })) {
    const named = { owner: String(owner) }
    const last = db.one('select seq from events where owner = :owner order by seq desc limit 1 offset :most', { ...named, most })
    if (last) count += forgetEvents(db, 'owner = :owner and seq <= :last', { ...named, last: Number(last['seq']) })
  }
  return count
}

/** With a sandbox go its provision and its idempotency key, which cannot make a second sandbox as long as the first is known. */
function forgetEnded(db: Database, before: number): number {
  const piece = `select id from sandboxes where state = 'ended' and ended_at < :before order by id limit ${pieceRows}`
  for (const table of ['provisions', 'idempotency_keys']) {
    db.run(`delete from ${table} where sandbox_id in (select id from (${piece}))`, { before })
  }
  return db.run(`delete from sandboxes where id in (select id from (${piece}))`, { before }).changes
}

/** Forgets one piece of each kind. Answers how many rows those were; 0 when nothing is due any more. */
export function forget(db: Database, { eventsBefore, eventsPerOwner, endedBefore }: Due): number {
  return db.transaction(() => forgetOldEvents(db, eventsBefore) + forgetManyEvents(db, eventsPerOwner) + forgetEnded(db, endedBefore))
}

export function forgottenUpTo(db: Database, owner: string | undefined): number {
  const row =
    owner === undefined
      ? db.one('select max(seq) as seq from forgotten_events')
      : db.one('select seq from forgotten_events where owner = :owner', { owner })
  return Number(row?.['seq'] ?? 0)
}
