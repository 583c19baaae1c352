// The usage of models in SQLite: sums, one row for each kind of calls of a day.
import { usageDimensions } from '@atoll/protocol'
import type { Totals, TotalsChange, UsageEntry, UsageStore } from '../gateway/ledger.ts'
import type { UsageDimension, UsageFilter, UsageSums, UsageView } from '../gateway/usage-view.ts'
import type { Database, Row } from './database.ts'

const columns: Readonly<Record<UsageDimension, string>> = {
  day: 'day',
  service: 'service_id',
  sandbox: 'sandbox_id',
  run: 'run_id',
  provider: 'provider',
  model: 'model',
}

export function sqliteUsage(db: Database): UsageStore & UsageView {
  const addTotals = ({ day, serviceId, requests, tokens, spend }: TotalsChange): void => {
    db.run(
      `insert into usage_totals (day, service_id, requests, tokens, spend) values (:day, :serviceId, :requests, :tokens, :spend)
       on conflict (day, service_id) do update set requests = requests + :requests, tokens = tokens + :tokens, spend = spend + :spend`,
      { day, serviceId, requests, tokens, spend },
    )
  }
  const addEntry = ({ costUsd, ...entry }: UsageEntry, at: number): void => {
    db.run(
      `insert into usage (day, service_id, sandbox_id, owner, run_id, provider, model, requests, failed, estimated, input, output, cached, cost_usd, unpriced)
       values (:day, :serviceId, :sandboxId, :owner, :runId, :provider, :model, :requests, :failed, :estimated, :input, :output, :cached, :costUsd, :unpriced)
       on conflict (day, service_id, sandbox_id, run_id, provider, model) do update set
         requests = requests + :requests, failed = failed + :failed, estimated = estimated + :estimated, input = input + :input,
         output = output + :output, cached = cached + :cached, cost_usd = cost_usd + :costUsd, unpriced = unpriced + :unpriced`,
      { ...entry, costUsd },
    )
    db.run('update provider_keys set last_used_at = :at where service_id = :serviceId and provider = :provider', {
      at,
      serviceId: entry.serviceId,
      provider: entry.provider,
    })
  }
  return {
    totals: async (serviceId, day): Promise<Totals> => {
      const row = db.one('select requests, tokens, spend from usage_totals where service_id = :serviceId and day = :day', {
        serviceId,
        day,
      })
      return { requests: Number(row?.['requests'] ?? 0), tokens: Number(row?.['tokens'] ?? 0), spend: Number(row?.['spend'] ?? 0) }
    },
    add: async ({ totals, entries, at }) =>
      db.transaction(() => {
        for (const change of totals) addTotals(change)
        for (const entry of entries) addEntry(entry, at)
      }),
    usage: async (filter, by, limit) => {
      const { where, values } = conditionOf(filter)
      const names = usageDimensions.filter((name) => by.includes(name)).map((name) => columns[name])
      const sums = `sum(requests) requests, sum(failed) failed, sum(estimated) estimated, sum(input) input, sum(output) output,
        sum(cached) cached, sum(cost_usd) cost_usd, sum(unpriced) unpriced`
      const grouped = names.length === 0 ? '' : `group by ${names.join(', ')} order by ${names.join(', ')}`
      const rows = db.all(`select ${[...names, sums].join(', ')} from usage where ${where} ${grouped} limit :limit`, { ...values, limit })
      return rows.map(sumsOf)
    },
  }
}

function conditionOf({ services, owner, serviceId, sandboxId, runId, from, to }: UsageFilter): { where: string; values: Row } {
  const parts = ['1']
  const values: Row = {}
  const add = (condition: string, name: string, value: string | number | undefined): void => {
    if (value === undefined) return
    parts.push(condition)
    values[name] = value
  }
  // Everything of the services, and the asker's own sandboxes wherever they are.
  if (services) {
    parts.push('(service_id in (select value from json_each(:services)) or owner = :owner)')
    values['services'] = JSON.stringify(services)
    values['owner'] = owner ?? ''
  }
  add('service_id = :serviceId', 'serviceId', serviceId)
  add('sandbox_id = :sandboxId', 'sandboxId', sandboxId)
  add('run_id = :runId', 'runId', runId)
  add('day >= :from', 'from', from)
  add('day <= :to', 'to', to)
  return { where: parts.join(' and '), values }
}

const optional = (row: Record<string, unknown>, name: string): string | undefined =>
  row[name] === undefined ? undefined : String(row[name])

const sumsOf = (row: Record<string, unknown>): UsageSums => ({
  day: optional(row, 'day'),
  serviceId: row['service_id'] === undefined ? undefined : Number(row['service_id']),
  sandboxId: optional(row, 'sandbox_id'),
  runId: optional(row, 'run_id'),
  provider: optional(row, 'provider'),
  model: optional(row, 'model'),
  requests: Number(row['requests'] ?? 0),
  failed: Number(row['failed'] ?? 0),
  estimated: Number(row['estimated'] ?? 0),
  input: Number(row['input'] ?? 0),
  output: Number(row['output'] ?? 0),
  cached: Number(row['cached'] ?? 0),
  costUsd: Number(row['cost_usd'] ?? 0),
  unpriced: Number(row['unpriced'] ?? 0),
})
