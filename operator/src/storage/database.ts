// One SQLite file, one writer, every write durable when it returns.
import { randomBytes } from 'node:crypto'
import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { Failure } from '@atoll/protocol'
import { migrations } from './migrations.ts'

export type Row = Record<string, SQLInputValue>

/** Before it is opened: SQLite gives the files that it keeps beside it, which hold all that was written last, the same mode. */
function makePrivate(file: string): void {
  closeSync(openSync(file, 'a', 0o600))
  for (const each of [file, `${file}-wal`, `${file}-shm`]) if (existsSync(each)) chmodSync(each, 0o600)
}

/** Result codes of SQLite without their details: the disk failed, or is full. */
const unwritable = new Set([10, 13])

/** What a caller can do something about is told from a defect. */
function explained(error: unknown): unknown {
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : 0
  if (!unwritable.has(code)) return error
  const message = 'The state of the operator cannot be written: its disk is full, or fails. Nothing was changed. Make room and try again.'
  return new Failure('store.unavailable', message, { cause: error, retryAfterMs: 5000 })
}

export class Database {
  readonly #db: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  constructor(file: string) {
    // Searchable, so that sandbox users get to their own disks below it; every file in it has its own fence.
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o711 })
    makePrivate(file)
    try {
      this.#db = new DatabaseSync(file)
      // FULL: a write that was answered survives a power cut. busy_timeout covers a backup tool that reads meanwhile.
      this.#db.exec('pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on; pragma busy_timeout = 5000')
      this.#refuseDamaged(file)
      this.#migrate()
    } catch (cause) {
      if (cause instanceof Failure) throw cause
      throw new Failure(
        'config.invalid',
        `The state database ${file} cannot be opened. Restore it from a backup, or move it away to start empty.`,
        { cause },
      )
    }
  }

  #refuseDamaged(file: string): void {
    const [result] = this.#db.prepare('pragma quick_check(1)').all()
    if (result?.['quick_check'] !== 'ok') {
      throw new Failure(
        'config.invalid',
        `The state database ${file} is damaged. Restore it from a backup, or move it away to start empty.`,
      )
    }
  }

  #migrate(): void {
    const [row] = this.#db.prepare('pragma user_version').all()
    const current = Number(row?.['user_version'] ?? 0)
    if (current > migrations.length) {
      throw new Failure(
        'config.invalid',
        `The state was written by a newer version (format ${current}, this one knows ${migrations.length}). Upgrade the operator.`,
      )
    }
    for (const [index, sql] of migrations.entries()) {
      if (index < current) continue
      this.transaction(() => this.#db.exec(`${sql}; pragma user_version = ${index + 1}`))
    }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (!statement) {
      statement = this.#db.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  /** @throws Failure `store.unavailable` */
  run(sql: string, values: Row = {}): { changes: number; id: number } {
    try {
      const { changes, lastInsertRowid } = this.#prepare(sql).run(values)
      return { changes: Number(changes), id: Number(lastInsertRowid) }
    } catch (error) {
      throw explained(error)
    }
  }

  all(sql: string, values: Row = {}): Record<string, unknown>[] {
    return this.#prepare(sql).all(values)
  }

  one(sql: string, values: Row = {}): Record<string, unknown> | undefined {
    return this.#prepare(sql).get(values)
  }

  /** Runs `work` as one transaction; a throw undoes all of it. @throws Failure `store.unavailable` */
  transaction<Result>(work: () => Result): Result {
    try {
      this.#db.exec('begin immediate')
      const result = work()
      this.#db.exec('commit')
      return result
    } catch (error) {
      // SQLite may have undone it already, as where the disk is full.
      if (this.#db.isTransaction) this.#db.exec('rollback')
      throw explained(error)
    }
  }

  /**
   * Marks what this operator makes at its engines. It lives with the records: an operator that lost them takes what it made before for
   * somebody else's, and touches none of it.
   */
  instanceId(): string {
    this.run(`insert into settings (name, value) values ('instance_id', :id) on conflict (name) do nothing`, {
      id: randomBytes(8).toString('hex'),
    })
    return String(this.one(`select value from settings where name = 'instance_id'`)?.['value'])
  }

  close(): void {
    this.#statements.clear()
    this.#db.close()
  }
}
