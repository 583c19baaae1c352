import { z } from 'zod'
import { byteLength } from './bytes.ts'
import { EgressPolicy } from './egress.ts'
import { route } from './route.ts'

export const runtimeNames = ['docker', 'namespace', 'firecracker', 'tee'] as const
export const RuntimeName = z.enum(runtimeNames).meta({ id: 'RuntimeName' })
export type RuntimeName = z.infer<typeof RuntimeName>

/** States as Atoll knows them; `paused` keeps its memory and processes, frozen. The reference's `state` field beside it knows only `running` and `stopped`. */
export const sandboxStates = ['creating', 'running', 'paused', 'stopped', 'deleting', 'ended'] as const
export const SandboxStatus = z.enum(sandboxStates).meta({ id: 'SandboxStatus' })
export type SandboxStatus = z.infer<typeof SandboxStatus>

/** Why a sandbox ended. `failed` and `node_lost` stay visible until their owner deletes them. */
export const EndReason = z
  .object({
    reason: z.enum(['deleted', 'idle', 'lifetime', 'oom', 'disk_full', 'pids', 'node_lost', 'failed']),
    /** The failure's code when the reason is `failed`. */
    code: z.string().optional(),
    message: z.string().optional(),
  })
  .meta({ id: 'EndReason' })
export type EndReason = z.infer<typeof EndReason>

export const envName = /^[A-Za-z_]\w*$/
const scalar = z.union([z.string(), z.number(), z.boolean()])

/** Environment as an object, or as the JSON text of one; numbers and booleans become text. */
export const Environment = z
  .record(z.string().max(256).regex(envName, 'an environment name is letters, digits and _, and does not start with a digit'), scalar)
  .refine((env) => Object.keys(env).length <= 256, 'at most 256 variables')
  .transform((env) => Object.fromEntries(Object.entries(env).map(([name, value]) => [name, String(value)])))
  .refine((env) => Object.values(env).every((value) => !value.includes('\0')), 'a value holds a NUL byte')
  .refine((env) => Object.values(env).every((value) => byteLength(value) <= 65_536), 'a value is longer than 64 KiB')

const jsonText = (value: unknown, context: z.RefinementCtx): unknown => {
  if (typeof value !== 'string') return value
  if (value.trim() === '') return {}
  try {
    return JSON.parse(value)
  } catch {
    context.addIssue({ code: 'custom', message: 'the text is not JSON' })
    return z.NEVER
  }
}

/** Accepts an object or the JSON text of one. */
export const objectOrText = <T extends z.ZodType>(schema: T) =>
  z
    .union([z.string(), z.record(z.string(), z.unknown())], 'must be an object or the JSON text of one')
    .transform(jsonText)
    .pipe(schema)

export const Port = z.int().min(1).max(65_535)

/** A port as a number, or in the reference's long form, of which only `container_port` counts. */
const PortRequest = z.union([Port, z.object({ container_port: Port }).transform((port) => port.container_port)])

export const Metadata = z
  .looseObject({
    runtime_backend: z.string().max(64).optional(),
    runtime: z.looseObject({ backend: z.string().max(64).optional() }).optional(),
    ports: z.array(PortRequest).max(8, 'at most 8 ports').optional(),
  })
  .refine((metadata) => byteLength(JSON.stringify(metadata)) <= 65_536, 'the metadata is longer than 64 KiB')

const text = (max: number) =>
  z
    .string()
    .max(max)
    .refine((value) => !value.includes('\0'), 'the text holds a NUL byte')

export const idleActions = ['stop', 'pause'] as const
const IdleAction = z.enum(idleActions)

/** What a sandbox is made from: the fields of the blueprint's creation struct. 0 in a size or timeout means the operator's default. */
export const CreateSandbox = z
  .object({
    /** The service that it belongs to; the default service of its owner when not given. */
    service_id: z.int().min(1).optional(),
    /** Snapshot to begin with: its disk, and its image, sizes, ports and metadata where nothing else is said. */
    snapshot: text(64).optional(),
    /** What it may reach of the world; what the operator says when not given. */
    egress: EgressPolicy.optional(),
    name: text(128).default(''),
    image: text(512).default(''),
    stack: text(128).default(''),
    agent_identifier: text(128).default(''),
    env_json: objectOrText(Environment).default({}),
    metadata_json: objectOrText(Metadata).default({}),
    ssh_enabled: z.boolean().default(false),
    ssh_public_key: text(16_384).default(''),
    web_terminal_enabled: z.boolean().default(true),
    /** What becomes of it when it is idle. A paused one is stopped when it is idle for as long again. */
    idle_action: IdleAction.default('stop'),
    /** Whether it is resumed by being used while it is paused or stopped. */
    auto_resume: z.boolean().default(false),
    max_lifetime_seconds: z.int().min(0).max(31_536_000).default(0),
    idle_timeout_seconds: z.int().min(0).max(31_536_000).default(0),
    cpu_cores: z.number().min(0).max(1024).default(0),
    memory_mb: z.int().min(0).max(16_777_216).default(0),
    disk_gb: z.int().min(0).max(1_048_576).default(0),
    tee_required: z.boolean().default(false),
    tee_type: z.int().min(0).max(3).default(0),
    attestation_nonce: text(130).default(''),
    capabilities_json: z.union([z.string().max(4096), z.array(z.string().max(64)).max(32)]).default(''),
  })
  .meta({ id: 'CreateSandbox' })
export type CreateSandbox = z.output<typeof CreateSandbox>
export type CreateSandboxInput = z.input<typeof CreateSandbox>

/** A sandbox as its owner sees it: the reference's summary, and beside it what the reference lacks. Times are unix seconds. */
export const Sandbox = z
  .object({
    id: z.string(),
    name: z.string(),
    image: z.string(),
    /** Where its routes stand on this operator; empty while it does not run. */
    sidecar_url: z.string(),
    state: z.enum(['running', 'stopped']),
    status: SandboxStatus,
    end: EndReason.optional(),
    runtime: RuntimeName,
    agent_identifier: z.string().optional(),
    cpu_cores: z.number(),
    memory_mb: z.int(),
    disk_gb: z.int(),
    created_at: z.int(),
    last_activity_at: z.int(),
    stopped_at: z.int().optional(),
    ssh_port: z.int().nullable(),
    service_id: z.int().optional(),
    managing_operator: z.string().optional(),
    tee_deployment_id: z.string().optional(),
    extra_ports: z.record(z.string(), z.int()).optional(),
    idle_timeout_seconds: z.int(),
    max_lifetime_seconds: z.int(),
    idle_action: IdleAction,
    auto_resume: z.boolean(),
    credentials_available: z.boolean(),
    circuit_breaker_active: z.boolean(),
    circuit_breaker_probing: z.boolean(),
    circuit_breaker_remaining_secs: z.int().optional(),
    owner: z.string(),
    metadata: z.record(z.string(), z.unknown()),
    /** The provision under which its making can be followed. */
    call_id: z.int(),
  })
  .meta({ id: 'Sandbox' })
export type Sandbox = z.infer<typeof Sandbox>

export const ListQuery = z.object({
  /** Opaque; from `next_cursor` of the page before. */
  cursor: z.string().max(256).optional(),
  limit: z.coerce.number().int().min(1).max(500).default(100),
  /** Comma list of states; ended sandboxes are listed only when asked for. */
  state: z
    .string()
    .transform((value) => value.split(','))
    .pipe(z.array(SandboxStatus))
    .optional(),
  /** `key=value` pairs, joined by commas; all must match a string, number or boolean of the metadata. */
  metadata: z
    .string()
    .max(4096)
    .transform((value) => value.split(','))
    .pipe(z.array(z.string().regex(/^[^=]+=/, 'write key=value')))
    .optional(),
})

const SandboxPage = z.object({ sandboxes: z.array(Sandbox), next_cursor: z.string().optional() })
const StateChange = z.object({ success: z.literal(true), sandbox_id: z.string(), state: z.enum(['running', 'paused', 'stopped']) })

export const sandboxRoutes = {
  create: route({
    method: 'POST',
    path: '/api/sandboxes',
    summary: 'Create a sandbox and wait until it runs; with wait=false, answer at once and follow the provision.',
    audit: 'sandbox.create',
    access: 'write',
    tier: 'write',
    query: z.object({ wait: z.enum(['true', 'false']).default('true') }),
    body: CreateSandbox,
    status: 201,
    response: Sandbox,
  }),
  list: route({
    method: 'GET',
    path: '/api/sandboxes',
    summary: 'List your sandboxes, newest first.',
    access: 'read',
    tier: 'read',
    query: ListQuery,
    response: SandboxPage,
  }),
  get: route({
    method: 'GET',
    path: '/api/sandboxes/{id}',
    summary: 'Read one sandbox.',
    access: 'read',
    tier: 'read',
    response: Sandbox,
    singleton: true,
  }),
  remove: route({
    method: 'DELETE',
    path: '/api/sandboxes/{id}',
    summary: 'End a sandbox and its disk. Safe to repeat.',
    audit: 'sandbox.delete',
    access: 'write',
    tier: 'write',
    seesDeleted: true,
    response: z.object({ deleted: z.literal(true), sandbox_id: z.string() }),
    singleton: true,
  }),
  stop: route({
    method: 'POST',
    path: '/api/sandboxes/{id}/stop',
    summary: 'Stop a sandbox and keep its disk. Safe to repeat.',
    audit: 'sandbox.stop',
    access: 'write',
    tier: 'write',
    response: StateChange,
    singleton: true,
  }),
  pause: route({
    method: 'POST',
    path: '/api/sandboxes/{id}/pause',
    summary: 'Freeze a sandbox with its processes and memory. Safe to repeat.',
    audit: 'sandbox.pause',
    access: 'write',
    tier: 'write',
    response: StateChange,
    singleton: true,
  }),
  update: route({
    method: 'PATCH',
    path: '/api/sandboxes/{id}',
    summary: "Change a sandbox's name, its timeouts, or what becomes of it when it is idle. Times are cut to what the operator allows.",
    audit: 'sandbox.update',
    access: 'write',
    tier: 'write',
    body: z
      .strictObject({
        name: text(128).min(1),
        idle_timeout_seconds: z.int().min(1).max(31_536_000),
        /** Counted from its creation. */
        max_lifetime_seconds: z.int().min(1).max(31_536_000),
        /** Adds to the lifetime; not with `max_lifetime_seconds`. */
        extend_seconds: z.int().min(1).max(31_536_000),
        idle_action: IdleAction,
        auto_resume: z.boolean(),
      })
      .partial(),
    response: Sandbox,
  }),
  resume: route({
    method: 'POST',
    path: '/api/sandboxes/{id}/resume',
    summary: 'Let a paused sandbox go on, or start a stopped one with its disk. Safe to repeat.',
    audit: 'sandbox.resume',
    access: 'write',
    tier: 'write',
    response: StateChange,
    singleton: true,
  }),
}
