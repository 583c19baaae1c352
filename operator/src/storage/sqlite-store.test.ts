import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { type OpenedStore, storeContract } from '../sandboxes/store.contract.ts'
import { Database } from './database.ts'
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
