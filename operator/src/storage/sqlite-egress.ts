// What sandboxes may reach, in SQLite.
import { EgressPolicy } from '@atoll/protocol'
import type { EgressStore } from '../gateway/egress/store.ts'
import type { Database } from './database.ts'
import { json } from './rows.ts'
import type { SqliteStore } from './sqlite-store.ts'

const Policy = json(EgressPolicy)
const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

/** @param events where events are written, in the same database */
export function sqliteEgress(db: Database, events: Pick<SqliteStore, 'writeWith'>): EgressStore {
  const column = (name: 'policy_json' | 'authority_sealed' | 'bindings_sealed', id: string): string | undefined =>
    text(db.one(`select ${name} as value from sandbox_egress where sandbox_id = :id`, { id })?.['value'])
  return {
    policy: async (id) => {
      const found = column('policy_json', id)
      return found === undefined ? undefined : Policy.parse(found)
    },
    setPolicy: async (id, policy, event) =>
      events.writeWith(event, () => {
        db.run(
          `insert into sandbox_egress (sandbox_id, policy_json) values (:id, :policy)
           on conflict (sandbox_id) do update set policy_json = :policy`,
          { id, policy: JSON.stringify(policy) },
        )
      }),
    bindings: async (id) => column('bindings_sealed', id),
    setBindings: async (id, sealed, event) =>
      events.writeWith(event, () => {
        db.run(
          `insert into sandbox_egress (sandbox_id, bindings_sealed) select id, :sealed from sandboxes where id = :id and state != 'ended'
           on conflict (sandbox_id) do update set bindings_sealed = :sealed`,
          { id, sealed },
        )
      }),
    authority: async (id) => column('authority_sealed', id),
    setAuthority: async (id, sealed) => {
      db.run(
        `insert into sandbox_egress (sandbox_id, authority_sealed) select id, :sealed from sandboxes where id = :id and state != 'ended'
         on conflict (sandbox_id) do update set authority_sealed = :sealed`,
        { id, sealed },
      )
    },
  }
}
