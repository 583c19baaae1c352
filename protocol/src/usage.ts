import { z } from 'zod'
import { route } from './route.ts'

/** By what usage can be told apart. */
export const usageDimensions = ['day', 'service', 'sandbox', 'run', 'provider', 'model'] as const

const day = z.iso.date('a day is written as 2026-01-31')

/** Sums of model calls that are alike in what was asked to tell apart. What was not asked for is not there. */
export const UsageRow = z
  .object({
    /** UTC. */
    day: day.optional(),
    service_id: z.int().optional(),
    sandbox_id: z.string().optional(),
    /** Empty: not of an agent's run. */
    run_id: z.string().optional(),
    provider: z.string().optional(),
    /** Empty: the answer did not say. */
    model: z.string().optional(),
    requests: z.int(),
    /** Requests that the provider refused, or whose answer was cut off. */
    failed: z.int(),
    /** Requests whose tokens are reckoned from sizes, since the answer did not say them. */
    estimated: z.int(),
    /** Without those from a cache. */
    input_tokens: z.int(),
    output_tokens: z.int(),
    cached_tokens: z.int(),
    /** Of what has a price. */
    cost_usd: z.number(),
    /** Tokens without a price, which `cost_usd` leaves out. */
    unpriced_tokens: z.int(),
  })
  .meta({ id: 'UsageRow' })
export type UsageRow = z.infer<typeof UsageRow>

export const usageRoutes = {
  list: route({
    method: 'GET',
    path: '/api/usage',
    summary: 'Sum up the model calls of your services and sandboxes; an admin sees those of everybody.',
    access: 'read',
    tier: 'read',
    query: z.object({
      /** Comma list of what to tell apart, of day, service, sandbox, run, provider, model. */
      by: z
        .string()
        .default('provider,model')
        .transform((text) =>
          text
            .split(',')
            .map((name) => name.trim())
            .filter(Boolean),
        )
        .pipe(z.array(z.enum(usageDimensions, `by takes ${usageDimensions.join(', ')}`))),
      service: z.coerce.number().int().min(1).optional(),
      sandbox: z.string().max(128).optional(),
      run: z.string().max(128).optional(),
      /** First and last day, both included; UTC. */
      from: day.optional(),
      to: day.optional(),
      limit: z.coerce.number().int().min(1).max(10_000).default(1000),
    }),
    response: z.object({
      usage: z.array(UsageRow),
      /** Whether there are more rows than `limit`. */
      truncated: z.boolean(),
    }),
  }),
}
