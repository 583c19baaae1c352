import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { type OpenedStore, storeContract } from '../sandboxes/store.contract.ts'
import { Database } from './database.ts'
import { migrations } from './migrations.ts'
import { sqliteServices } from './sqlite-services.ts'
import { SqliteStore } from './sqlite-store.ts'

const temporary = (): { file: string; remove: () => void } => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-store-'))
  return { file: path.join(folder, 'atoll.db'), remove: () => rmSync(folder, { recursive: true }) }
}

async function open(): Promise<OpenedStore> {
  const { file, remove } = temporary()
  let db = new Database(file)
  return {
    store: new SqliteStore(db, Date.now),
    reopen: async () => {
      db.close()
      db = new Database(file)
      return new SqliteStore(db, Date.now)
    },
    close: async () => {
      db.close()
      remove()
    },
  }
}

storeContract('sqlite', open)

test('the database can be read by its owner only, with all that is kept beside it', () => {
  const { file, remove } = temporary()
  const db = new Database(file)
  for (const each of [file, `${file}-wal`, `${file}-shm`]) assert.equal(statSync(each).mode & 0o777, 0o600, each)
  db.close()
  remove()
})

test('sandboxes from before there were services belong to the default services of their owners', async () => {
  const { file, remove } = temporary()
  const old = new DatabaseSync(file)
  old.exec(`${migrations.slice(0, 2).join(';')}; pragma user_version = 2`)
  const insert =
    old.prepare(`insert into sandboxes (id, owner, version, state, runtime, name, image, agent_identifier, cpu_cores, memory_mb,
    disk_gb, pids, ports_json, metadata_json, capabilities_json, idle_timeout_seconds, max_lifetime_seconds, call_id, created_at, last_activity_at)
    values (?, ?, 1, 'stopped', 'namespace', 'x', '', '', 1, 256, 1, 64, '[]', '{}', '[]', 0, 0, 1, ?, 1)`)
  for (const [id, owner, at] of [
    ['a', 'ann', 5],
    ['b', 'bob', 3],
    ['c', 'ann', 4],
  ] as const)
    insert.run(id, owner, at)
  old.close()
  const db = new Database(file)
  const store = new SqliteStore(db, Date.now)
  const services = await sqliteServices(db, store).list(undefined)
  assert.deepEqual(
    services.map(({ id, owner, isDefault, createdAt }) => [id, owner, isDefault, createdAt]),
    [
      [1, 'bob', true, 3],
      [2, 'ann', true, 4],
    ],
  )
  const serviceOf = async (id: string) => (await store.get(id))?.serviceId
  assert.deepEqual([await serviceOf('a'), await serviceOf('b'), await serviceOf('c')], [2, 1, 2])
  assert.equal((await store.usage(2)).diskGb, 2)
  db.close()
  remove()
})

test('a damaged database is refused and not replaced by an empty one', () => {
  const { file, remove } = temporary()
  writeFileSync(file, 'this is not a database, and it is long enough to be looked at as one'.repeat(20))
  assert.throws(() => new Database(file), { code: 'config.invalid' })
  assert.ok(statSync(file).size > 1000)
  remove()
})

test('a database of a newer format is refused', () => {
  const { file, remove } = temporary()
  const db = new Database(file)
  db.run('pragma user_version = 999')
  db.close()
  assert.throws(() => new Database(file), { code: 'config.invalid', message: /newer version/ })
  remove()
})

test('a transaction that throws leaves nothing', () => {
  const { file, remove } = temporary()
  const db = new Database(file)
  assert.throws(() =>
    db.transaction(() => {
      db.run(`insert into settings (name, value) values ('a', 'b')`)
      throw new Error('stop')
    }),
  )
  assert.equal(db.one(`select count(*) as n from settings`)?.['n'], 0)
  db.close()
  remove()
})

test('a database that is full says so, keeps what it has, and takes more when there is room again', () => {
  const { file, remove } = temporary()
  const db = new Database(file)
  const add = (text: string) => db.run('insert into settings (name, value) values (:name, :text)', { name: text.slice(0, 20), text })
  const pages = Number(db.one('pragma page_count')?.['page_count'])
  db.run(`pragma max_page_count = ${pages + 1}`)
  const long = 'x'.repeat(100_000)
  assert.throws(() => add(long), { code: 'store.unavailable', status: 503 })
  const both = (): void => {
    add('short')
    add(long)
  }
  assert.throws(() => db.transaction(both), { code: 'store.unavailable' })
  assert.equal(db.one(`select 1 from settings where name = 'short'`), undefined)
  db.run(`pragma max_page_count = ${pages + 1000}`)
  db.transaction(both)
  db.close()
  remove()
})
