import { z } from 'zod'
import { route } from './route.ts'
import { CreateSandbox, RuntimeName, Sandbox } from './sandboxes.ts'

export const snapshotStates = ['creating', 'ready', 'failed'] as const

/** The disk of a sandbox as it was at one moment, compressed and encrypted. Times are unix seconds, sizes those of the sandbox. */
export const Snapshot = z
  .object({
    id: z.string(),
    name: z.string(),
    owner: z.string(),
    /** Whose disk it is of; that one may be gone. */
    sandbox_id: z.string(),
    service_id: z.int(),
    state: z.enum(snapshotStates),
    /** 0…100; 100 when it is ready. */
    progress_pct: z.int(),
    /** Why it could not be made. */
    error: z.object({ code: z.string(), message: z.string() }).optional(),
    runtime: RuntimeName,
    image: z.string(),
    cpu_cores: z.number(),
    memory_mb: z.int(),
    /** A sandbox made from it has no smaller disk. */
    disk_gb: z.int(),
    ports: z.array(z.int()),
    /** What it takes on the operator's disk; 0 until it is ready. */
    size_bytes: z.int(),
    created_at: z.int(),
  })
  .meta({ id: 'Snapshot' })
export type Snapshot = z.infer<typeof Snapshot>

/** As for a new sandbox; what is not said is that of the sandbox it is a copy of. Its environment and secrets are not taken along. */
export const ForkSandbox = CreateSandbox.omit({ snapshot: true })
  .extend({ count: z.int().min(1).max(16).default(1) })
  .meta({ id: 'ForkSandbox' })

const Name = z
  .string()
  .max(128)
  .refine((value) => !value.includes('\0'), 'the text holds a NUL byte')

const ListSnapshots = z.object({
  /** Opaque; from `next_cursor` of the page before. */
  cursor: z.string().max(256).optional(),
  limit: z.coerce.number().int().min(1).max(500).default(100),
  /** Only those of this sandbox. */
  sandbox_id: z.string().max(128).optional(),
})

export const snapshotRoutes = {
  create: route({
    method: 'POST',
    path: '/api/sandboxes/{id}/snapshots',
    summary:
      'Keep the disk of a sandbox as it is, and wait until that is done; with wait=false, answer at once. A running one stands still meanwhile and then goes on. An Idempotency-Key makes it safe to repeat.',
    audit: 'snapshot.create',
    access: 'write',
    tier: 'write',
    query: z.object({ wait: z.enum(['true', 'false']).default('true') }),
    body: z.strictObject({ name: Name.default('') }),
    status: 201,
    response: Snapshot,
  }),
  list: route({
    method: 'GET',
    path: '/api/snapshots',
    summary: 'List your snapshots, newest first.',
    access: 'read',
    tier: 'read',
    query: ListSnapshots,
    response: z.object({ snapshots: z.array(Snapshot), next_cursor: z.string().optional() }),
  }),
  get: route({
    method: 'GET',
    path: '/api/snapshots/{sid}',
    summary: 'Read one snapshot, with how far it is.',
    access: 'read',
    tier: 'read',
    response: Snapshot,
  }),
  remove: route({
    method: 'DELETE',
    path: '/api/snapshots/{sid}',
    summary: 'Forget a snapshot. Sandboxes made from it stay. Safe to repeat.',
    audit: 'snapshot.delete',
    access: 'write',
    tier: 'write',
    response: z.object({ deleted: z.literal(true), snapshot_id: z.string() }),
  }),
  fork: route({
    method: 'POST',
    path: '/api/sandboxes/{id}/fork',
    summary: 'Make up to 16 new sandboxes with the disk that this one has now, all or none, and wait until they run.',
    audit: 'sandbox.fork',
    access: 'write',
    tier: 'write',
    body: ForkSandbox,
    status: 201,
    response: z.object({ sandboxes: z.array(Sandbox) }),
  }),
}
