import { z } from 'zod'
import { route } from './route.ts'
import { RuntimeName } from './sandboxes.ts'

const Status = z.object({ status: z.enum(['ok', 'error']), error: z.string().optional() })
const open = { method: 'GET', access: 'public', tier: 'read' } as const

/** A limit holds, or the reason why this machine cannot make it hold. */
export const LimitSupport = z.union([z.literal(true), z.string()])

/** What a runtime is on this machine, from a probe that really started something. */
export const RuntimeProbe = z
  .object({
    name: RuntimeName,
    available: z.boolean(),
    /** Why not, and what to do. */
    reason: z.string().optional(),
    version: z.string().optional(),
    /** How strong the wall is, in one sentence. */
    isolation: z.string(),
    limits: z.object({ memory: LimitSupport, cpu: LimitSupport, pids: LimitSupport, disk: LimitSupport }),
    features: z.array(z.string()),
    default: z.boolean(),
    probed_at: z.int(),
  })
  .meta({ id: 'RuntimeProbe' })

/** What was found in an image by trying it, with the content that was tried. */
export const ImageProbe = z
  .object({
    runtime: RuntimeName,
    /** As it is asked for; empty: the runtime's own. */
    image: z.string(),
    image_id: z.string(),
    harnesses: z.array(z.string()),
    /** Why what the image claims is not among them. */
    problems: z.array(z.string()),
    probed_at: z.int(),
  })
  .meta({ id: 'ImageProbe' })

/** What makes a capability true. */
const Evidence = z.object({
  capability: z.string(),
  runtime: RuntimeName,
  image: z.string(),
  image_id: z.string(),
  /** What was run. */
  probe: z.string(),
  probed_at: z.int(),
})

export const healthRoutes = {
  health: route({
    ...open,
    path: '/health',
    summary: 'Whether the parts of the operator work; 503 when one does not.',
    response: z.object({
      status: z.enum(['ok', 'degraded']),
      checks: z.object({ runtime: Status, store: Status }),
      runtime_backend: z.string(),
      runtime_error: z.string().nullable(),
      version: z.string(),
    }),
  }),
  ready: route({
    ...open,
    path: '/readyz',
    summary: 'Strict readiness; 503 unless every required part works.',
    response: z.union([
      z.object({ status: z.literal('ready') }),
      z.object({
        status: z.literal('not_ready'),
        runtime_backend: z.string(),
        runtime: z.boolean(),
        runtime_error: z.string().nullable(),
        store: z.boolean(),
      }),
    ]),
  }),
  capabilities: route({
    ...open,
    path: '/api/capabilities',
    summary: 'What this operator can do, from what it has probed.',
    response: z.object({
      capabilities: z.array(z.object({ id: z.string(), label: z.string(), description: z.string() })),
      harnesses: z.array(z.object({ id: z.string(), label: z.string(), mcp: z.boolean(), skills: z.boolean(), subagents: z.boolean() })),
      runtimes: z.array(RuntimeProbe),
      images: z.array(ImageProbe),
      evidence: z.array(Evidence),
      probed_at: z.int(),
    }),
  }),
}
