// Every sealed text of the store, wherever it lies.
import { authorityContext } from '../gateway/egress/authorities.ts'
import { bindingsContext } from '../gateway/egress/bindings.ts'
import { environmentContext, secretsContext } from '../sandboxes/secrets.ts'
import { snapshotContext } from '../sandboxes/snapshot-store.ts'
import type { SealedTexts } from '../secrets/rotation.ts'
import { providerKeyContext } from '../services/provider-keys.ts'
import type { Database } from './database.ts'
import type { SqliteStore } from './sqlite-store.ts'

interface SealedText {
  readonly sealed: unknown
  readonly context: string
  replace(sealed: string): void
}

/** @param events where the event is written, in the same database */
export const sqliteSealedTexts = (db: Database, events: Pick<SqliteStore, 'write'>): SealedTexts => ({
  replaceAll: async (change, { by, keyId }) =>
    events.write((event) => {
      const count = { resealed: 0, unreadable: 0 }
      for (const { sealed, context, replace } of [...ofSandboxes(db), ...ofServices(db), ...ofEgress(db), ...ofSnapshots(db)]) {
        if (typeof sealed !== 'string') continue
        const changed = change(sealed, context)
        if (changed !== undefined) replace(changed)
        count[changed === undefined ? 'unreadable' : 'resealed'] += 1
      }
      event(by, { type: 'sealing_key.rotated', data: { by, key_id: keyId, ...count } })
      return count
    }),
})

const ofSandboxes = (db: Database): SealedText[] =>
  db
    .all('select id, env_sealed, secrets_sealed from sandboxes where env_sealed is not null or secrets_sealed is not null')
    .flatMap((row) => {
      const id = String(row['id'])
      return [
        {
          sealed: row['env_sealed'],
          context: environmentContext(id),
          replace: (sealed) => void db.run('update sandboxes set env_sealed = :sealed where id = :id', { id, sealed }),
        },
        {
          sealed: row['secrets_sealed'],
          context: secretsContext(id),
          replace: (sealed) => void db.run('update sandboxes set secrets_sealed = :sealed where id = :id', { id, sealed }),
        },
      ]
    })

const ofServices = (db: Database): SealedText[] =>
  db.all('select service_id, provider, sealed from provider_keys').map((row) => {
    const [service, provider] = [Number(row['service_id']), String(row['provider'])]
    const update = 'update provider_keys set sealed = :sealed where service_id = :service and provider = :provider'
    return {
      sealed: row['sealed'],
      context: providerKeyContext(service, provider),
      replace: (sealed) => void db.run(update, { service, provider, sealed }),
    }
  })

const ofEgress = (db: Database): SealedText[] =>
  db.all('select sandbox_id, authority_sealed, bindings_sealed from sandbox_egress').flatMap((row) => {
    const id = String(row['sandbox_id'])
    const text = (column: 'authority_sealed' | 'bindings_sealed', context: string): SealedText => ({
      sealed: row[column],
      context,
      replace: (sealed) => void db.run(`update sandbox_egress set ${column} = :sealed where sandbox_id = :id`, { id, sealed }),
    })
    return [text('authority_sealed', authorityContext(id)), text('bindings_sealed', bindingsContext(id))]
  })

const ofSnapshots = (db: Database): SealedText[] =>
  db.all('select id, key_sealed from snapshots').map((row) => {
    const id = String(row['id'])
    return {
      sealed: row['key_sealed'],
      context: snapshotContext(id),
      replace: (sealed) => void db.run('update snapshots set key_sealed = :sealed where id = :id', { id, sealed }),
    }
  })
