import { z } from 'zod'
import { route } from './route.ts'

/** The state that the reference's client reads while a sandbox is made. Times are unix seconds. */
export const Provision = z
  .object({
    call_id: z.int(),
    sandbox_id: z.string().nullable(),
    phase: z.enum(['queued', 'image_pull', 'container_create', 'container_start', 'health_check', 'ready', 'failed']),
    message: z.string().nullable(),
    started_at: z.int(),
    updated_at: z.int(),
    progress_pct: z.int(),
    sidecar_url: z.string().nullable(),
    metadata: z.object({ service_id: z.int() }).nullable(),
  })
  .meta({ id: 'Provision' })
export type Provision = z.infer<typeof Provision>

/**
 * Something that happened to a sandbox, or to a service, in which case `sandbox_id` is empty. `at` is unix milliseconds; `seq` orders all
 * events of the operator.
 */
export const SandboxEvent = z
  .object({
    seq: z.int(),
    type: z.string(),
    sandbox_id: z.string(),
    at: z.int(),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'SandboxEvent' })
export type SandboxEvent = z.infer<typeof SandboxEvent>

const cursor = z.coerce.number().int().min(0).default(0)
const FeedQuery = z.object({
  /** Number of the last event that the reader has. */
  cursor,
  limit: z.coerce.number().int().min(1).max(1000).default(100),
})
const Feed = z.object({ events: z.array(SandboxEvent), next_cursor: z.int() })
const one = { method: 'GET', access: 'read', tier: 'read' } as const
const follow = { ...one, query: z.object({ cursor }), response: SandboxEvent, stream: 'events' } as const

export const eventRoutes = {
  feed: route({ ...one, path: '/api/events', summary: 'Events of all your sandboxes, in order.', query: FeedQuery, response: Feed }),
  follow: route({ ...follow, path: '/api/events/stream', summary: 'Follow the events of all your sandboxes; Last-Event-ID is honoured.' }),
  sandboxFeed: route({
    ...one,
    path: '/api/sandboxes/{id}/events',
    summary: 'Events of one sandbox, in order.',
    query: FeedQuery,
    response: Feed,
    singleton: true,
  }),
  sandboxFollow: route({
    ...follow,
    path: '/api/sandboxes/{id}/events/stream',
    summary: 'Follow the events of one sandbox; Last-Event-ID is honoured.',
    singleton: true,
  }),
  provisions: route({
    ...one,
    path: '/api/provisions',
    summary: 'Your provisions, newest first.',
    response: z.object({ provisions: z.array(Provision) }),
  }),
  provision: route({
    ...one,
    path: '/api/provisions/{call_id}',
    summary: 'How far a creation is. An on-chain call is readable without a credential.',
    access: 'public',
    response: Provision,
  }),
}
