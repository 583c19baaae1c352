// The store port in SQLite.
import { Failure, type SandboxEvent, type SandboxStatus } from '@atoll/protocol'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import type {
  Due,
  Idempotency,
  NewEvent,
  ProvisionChange,
  ProvisionRecord,
  SandboxChange,
  SandboxFilter,
  SealedEnvironment,
  Store,
  Usage,
} from '../sandboxes/store.ts'
import type { Database, Row } from './database.ts'
import { toEvent, toProvision, toSandbox } from './rows.ts'
import { forget, forgottenUpTo } from './sqlite-retention.ts'

const columns = [
  ...[
    'id',
    'owner',
    'service_id',
    'version',
    'state',
    'runtime',
    'name',
    'image',
    'agent_identifier',
    'cpu_cores',
    'memory_mb',
    'disk_gb',
    'pids',
  ],
  ...['ports_json', 'metadata_json', 'capabilities_json', 'idle_timeout_seconds', 'max_lifetime_seconds', 'call_id', 'socket_path'],
  ...['idle_action', 'auto_resume'],
  ...['env_sealed', 'secrets_sealed', 'created_at', 'last_activity_at', 'stopped_at'],
]
const insertSandbox = `insert into sandboxes (${columns.join(', ')}) values (${columns.map((name) => `:${name}`).join(', ')})`

/** SQL for each filter that is set, and its values. */
function where(filter: SandboxFilter): { sql: string; values: Row } {
  const terms: string[] = []
  const values: Row = {}
  const add = (term: string, named: Row): void => {
    terms.push(term)
    Object.assign(values, named)
  }
  if (filter.owner !== undefined) add('owner = :owner', { owner: filter.owner })
  if (filter.runtime !== undefined) add('runtime = :runtime', { runtime: filter.runtime })
  if (filter.serviceId !== undefined) add('service_id = :service_id', { service_id: filter.serviceId })
  if (filter.states) add('state in (select value from json_each(:states))', { states: JSON.stringify(filter.states) })
  if (filter.after) add('(created_at, id) < (:after_at, :after_id)', { after_at: filter.after.createdAt, after_id: filter.after.id })
  for (const [index, [key, text]] of (filter.metadata ?? []).entries()) {
    const term = `exists (select 1 from json_each(metadata_json) where key = :key${index} and type in ('text', 'integer', 'real', 'true', 'false')
      and case type when 'true' then 'true' when 'false' then 'false' else cast(value as text) end = :text${index})`
    add(term, { [`key${index}`]: key, [`text${index}`]: text })
  }
  return { sql: terms.length > 0 ? `where ${terms.join(' and ')}` : '', values }
}

export class SqliteStore implements Store {
  readonly #db: Database
  readonly #now: () => number
  readonly #listeners = new Set<() => void>()

  constructor(db: Database, now: () => number) {
    this.#db = db
    this.#now = now
  }

  async insert(
    sandbox: Omit<SandboxRecord, 'version' | 'callId'>,
    sealed: SealedEnvironment,
    idempotency?: Idempotency,
  ): Promise<SandboxRecord> {
    const record = this.write(() => {
      const seconds = Math.floor(this.#now() / 1000)
      const { id: callId } = this.#db.run(
        `insert into provisions (owner, sandbox_id, is_public, phase, started_at, updated_at) values (:owner, :sandbox, 0, 'queued', :at, :at)`,
        { owner: sandbox.owner, sandbox: sandbox.id, at: seconds },
      )
      const created: SandboxRecord = { ...sandbox, version: 1, callId }
      this.#db.run(insertSandbox, { ...this.#row(created), env_sealed: sealed.env ?? null, secrets_sealed: sealed.secrets ?? null })
      if (idempotency) {
        this.#db.run(
          `insert into idempotency_keys (owner, key, fingerprint, sandbox_id, created_at) values (:owner, :key, :fingerprint, :sandbox, :at)`,
          { owner: sandbox.owner, ...idempotency, sandbox: sandbox.id, at: this.#now() },
        )
      }
      this.#event(sandbox.owner, { type: 'sandbox.creating', sandboxId: sandbox.id, data: { runtime: sandbox.runtime, call_id: callId } })
      return created
    })
    return record
  }

  #row(sandbox: SandboxRecord): Row {
    return {
      id: sandbox.id,
      owner: sandbox.owner,
      service_id: sandbox.serviceId,
      version: sandbox.version,
      state: sandbox.state,
      runtime: sandbox.runtime,
      name: sandbox.name,
      image: sandbox.image,
      agent_identifier: sandbox.agentIdentifier,
      cpu_cores: sandbox.cpuCores,
      memory_mb: sandbox.memoryMb,
      disk_gb: sandbox.diskGb,
      pids: sandbox.pids,
      ports_json: JSON.stringify(sandbox.ports),
      metadata_json: JSON.stringify(sandbox.metadata),
      capabilities_json: JSON.stringify(sandbox.capabilities),
      idle_timeout_seconds: sandbox.idleTimeoutSeconds,
      max_lifetime_seconds: sandbox.maxLifetimeSeconds,
      idle_action: sandbox.idleAction,
      auto_resume: sandbox.autoResume ? 1 : 0,
      call_id: sandbox.callId,
      socket_path: sandbox.socketPath ?? null,
      created_at: sandbox.createdAt,
      last_activity_at: sandbox.lastActivityAt,
      stopped_at: sandbox.stoppedAt ?? null,
    }
  }

  async get(id: string): Promise<SandboxRecord | undefined> {
    const row = this.#db.one('select * from sandboxes where id = :id', { id })
    return row && toSandbox(row)
  }

  async list(filter: SandboxFilter): Promise<SandboxRecord[]> {
    const { sql, values } = where(filter)
    const rows = this.#db.all(`select * from sandboxes ${sql} order by created_at desc, id desc limit :limit`, {
      ...values,
      limit: filter.limit ?? -1,
    })
    return rows.map(toSandbox)
  }

  async move(from: SandboxRecord, to: SandboxStatus, change: SandboxChange, event: NewEvent): Promise<SandboxRecord | undefined> {
    const next: SandboxRecord = { ...from, ...change, state: to, version: from.version + 1 }
    const moved = this.write(() => {
      const { changes } = this.#db.run(
        `update sandboxes set state = :state, version = :version, end_json = :end, socket_path = :socket, stopped_at = :stopped,
           last_activity_at = :active, image = :image, name = :name, idle_timeout_seconds = :idle, max_lifetime_seconds = :lifetime,
           idle_action = :idle_action, auto_resume = :auto_resume,
           ended_at = case when :state = 'ended' then :now end,
           env_sealed = case when :state = 'ended' then null else env_sealed end,
           secrets_sealed = case when :state = 'ended' then null else secrets_sealed end
         where id = :id and version = :expected and state = :from`,
        {
          id: from.id,
          expected: from.version,
          from: from.state,
          state: to,
          version: next.version,
          end: next.end ? JSON.stringify(next.end) : null,
          socket: next.socketPath ?? null,
          stopped: next.stoppedAt ?? null,
          active: next.lastActivityAt,
          image: next.image,
          name: next.name,
          idle: next.idleTimeoutSeconds,
          lifetime: next.maxLifetimeSeconds,
          idle_action: next.idleAction,
          auto_resume: next.autoResume ? 1 : 0,
          now: this.#now(),
        },
      )
      if (changes === 1) this.#event(from.owner, event)
      return changes === 1
    })
    return moved ? next : undefined
  }

  async touch(id: string, lastActivityAt: number): Promise<void> {
    this.#db.run('update sandboxes set last_activity_at = max(last_activity_at, :at) where id = :id', { id, at: lastActivityAt })
  }

  async usage(serviceId?: number): Promise<Usage> {
    const row = this.#db.one(
      `select count(*) as sandboxes,
              coalesce(sum(case when state in ('creating', 'running', 'paused') then memory_mb end), 0) as memory,
              coalesce(sum(case when state in ('creating', 'running', 'paused') then cpu_cores end), 0) as cpu,
              coalesce(sum(disk_gb), 0) as disk
         from sandboxes where state in ('creating', 'running', 'paused', 'stopped') and (:service is null or service_id = :service)`,
      { service: serviceId ?? null },
    )
    const number = (name: string): number => Number(row?.[name] ?? 0)
    return { sandboxes: number('sandboxes'), memoryMb: number('memory'), cpuCores: number('cpu'), diskGb: number('disk') }
  }

  async findIdempotent(owner: string, key: string): Promise<{ sandboxId: string; fingerprint: string } | undefined> {
    const row = this.#db.one('select sandbox_id, fingerprint from idempotency_keys where owner = :owner and key = :key', { owner, key })
    return row && { sandboxId: String(row['sandbox_id']), fingerprint: String(row['fingerprint']) }
  }

  async releaseIdempotency(sandboxId: string): Promise<void> {
    this.#db.run('delete from idempotency_keys where sandbox_id = :sandboxId', { sandboxId })
  }

  async sealed(id: string): Promise<SealedEnvironment> {
    const row = this.#db.one('select env_sealed, secrets_sealed from sandboxes where id = :id', { id })
    const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
    return { env: text(row?.['env_sealed']), secrets: text(row?.['secrets_sealed']) }
  }

  async setSecrets(id: string, secrets: string | undefined, event: NewEvent): Promise<void> {
    this.write(() => {
      this.#db.run('update sandboxes set secrets_sealed = :secrets where id = :id', { id, secrets: secrets ?? null })
      this.#event(this.#ownerOf(id), event)
    })
  }

  async appendEvent(event: NewEvent): Promise<void> {
    this.write(() => this.#event(this.#ownerOf(event.sandboxId), event))
  }

  #ownerOf(id: string): string {
    const row = this.#db.one('select owner from sandboxes where id = :id', { id })
    if (!row) throw new Failure('sandbox.not_found', `No sandbox ${id}.`)
    return String(row['owner'])
  }

  #event(owner: string, event: NewEvent): void {
    this.#db.run('insert into events (sandbox_id, owner, type, at, data_json) values (:sandbox, :owner, :type, :at, :data)', {
      sandbox: event.sandboxId,
      owner,
      type: event.type,
      at: this.#now(),
      data: JSON.stringify(event.data ?? {}),
    })
  }

  async events(filter: { owner?: string; sandboxId?: string; cursor: number; limit: number }): Promise<SandboxEvent[]> {
    const terms = ['seq > :cursor']
    const values: Row = { cursor: filter.cursor, limit: filter.limit }
    if (filter.owner !== undefined) {
      terms.push('owner = :owner')
      values['owner'] = filter.owner
    }
    if (filter.sandboxId !== undefined) {
      terms.push('sandbox_id = :sandbox')
      values['sandbox'] = filter.sandboxId
    }
    return this.#db.all(`select * from events where ${terms.join(' and ')} order by seq limit :limit`, values).map(toEvent)
  }

  async setProvision(callId: number, change: ProvisionChange): Promise<void> {
    this.#db.run('update provisions set phase = :phase, message = :message, updated_at = :at where call_id = :call', {
      call: callId,
      phase: change.phase,
      message: change.message ?? null,
      at: Math.floor(this.#now() / 1000),
    })
  }

  async provision(callId: number): Promise<ProvisionRecord | undefined> {
    const row = this.#db.one('select * from provisions where call_id = :call', { call: callId })
    return row && toProvision(row)
  }

  async provisions(owner: string | undefined, limit: number): Promise<ProvisionRecord[]> {
    const rows =
      owner === undefined
        ? this.#db.all('select * from provisions order by call_id desc limit :limit', { limit })
        : this.#db.all('select * from provisions where owner = :owner order by call_id desc limit :limit', { owner, limit })
    return rows.map(toProvision)
  }

  async forget(due: Due): Promise<number> {
    return forget(this.#db, due)
  }

  async forgottenUpTo(owner: string | undefined): Promise<number> {
    return forgottenUpTo(this.#db, owner)
  }

  async check(): Promise<void> {
    this.#db.run(`insert into settings (name, value) values ('checked_at', :at) on conflict (name) do update set value = :at`, {
      at: String(this.#now()),
    })
  }

  onEvent(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** The event of a sandbox together with what it tells of, in one transaction. */
  writeWith(event: NewEvent, work: () => void): void {
    this.write(() => {
      this.#event(this.#ownerOf(event.sandboxId), event)
      work()
    })
  }

  /** Runs `work` as one transaction and tells who follows events. It may write events of an owner that are of no sandbox. */
  write<Result>(work: (event: (owner: string, event: Omit<NewEvent, 'sandboxId'>) => void) => Result): Result {
    const result = this.#db.transaction(() => work((owner, event) => this.#event(owner, { ...event, sandboxId: '' })))
    for (const listener of this.#listeners) listener()
    return result
  }
}
