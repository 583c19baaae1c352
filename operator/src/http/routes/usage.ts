import type { UsageRow, usageRoutes } from '@atoll/protocol'
import type { UsageSums, UsageView } from '../../gateway/usage-view.ts'
import type { Services } from '../../services/services.ts'
import type { Handlers } from '../call.ts'

export interface UsageParts {
  readonly services: Services
  readonly usage: UsageView
  /** Writes down what has been counted. */
  readonly settleUsage: () => Promise<void>
}

const shown = (sums: UsageSums): UsageRow => ({
  day: sums.day,
  service_id: sums.serviceId,
  sandbox_id: sums.sandboxId,
  run_id: sums.runId,
  provider: sums.provider,
  model: sums.model,
  requests: sums.requests,
  failed: sums.failed,
  estimated: sums.estimated,
  input_tokens: sums.input,
  output_tokens: sums.output,
  cached_tokens: sums.cached,
  cost_usd: sums.costUsd,
  unpriced_tokens: sums.unpriced,
})

export const usageHandlers = ({ services, usage, settleUsage }: UsageParts): Handlers<typeof usageRoutes> => ({
  list: async ({ request: { query }, caller }) => {
    await settleUsage()
    const isAdmin = caller.scope === 'admin'
    // A member sees only what is of their own sandboxes; an owner sees all of a service.
    const visible = isAdmin ? undefined : await services.ownedBy(caller.owner)
    const filter = {
      services: visible,
      owner: caller.owner,
      serviceId: query.service,
      sandboxId: query.sandbox,
      runId: query.run,
      from: query.from,
      to: query.to,
    }
    const rows = await usage.usage(filter, query.by, query.limit + 1)
    return { usage: rows.slice(0, query.limit).map(shown), truncated: rows.length > query.limit }
  },
})
