// How records lie in rows.
import { EndReason, idleActions, Provision, RuntimeName, SandboxEvent, SandboxStatus } from '@atoll/protocol'
import { z } from 'zod'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import type { ProvisionRecord } from '../sandboxes/store.ts'

export const orUndefined = <T extends z.ZodType>(schema: T) => schema.nullable().transform((value) => value ?? undefined)
export const json = <T extends z.ZodType>(schema: T) =>
  z
    .string()
    .transform((text): unknown => JSON.parse(text))
    .pipe(schema)

const SandboxRow = z.object({
  id: z.string(),
  owner: z.string(),
  service_id: z.int(),
  version: z.int(),
  state: SandboxStatus,
  end_json: orUndefined(json(EndReason)),
  runtime: RuntimeName,
  name: z.string(),
  image: z.string(),
  agent_identifier: z.string(),
  cpu_cores: z.number(),
  memory_mb: z.int(),
  disk_gb: z.int(),
  pids: z.int(),
  ports_json: json(z.array(z.int())),
  metadata_json: json(z.record(z.string(), z.unknown())),
  capabilities_json: json(z.array(z.string())),
  idle_timeout_seconds: z.int(),
  max_lifetime_seconds: z.int(),
  idle_action: z.enum(idleActions),
  auto_resume: z.int(),
  call_id: z.int(),
  socket_path: orUndefined(z.string()),
  created_at: z.int(),
  last_activity_at: z.int(),
  stopped_at: orUndefined(z.int()),
})

export function toSandbox(raw: Record<string, unknown>): SandboxRecord {
  const row = SandboxRow.parse(raw)
  return {
    id: row.id,
    owner: row.owner,
    serviceId: row.service_id,
    version: row.version,
    state: row.state,
    end: row.end_json,
    runtime: row.runtime,
    name: row.name,
    image: row.image,
    agentIdentifier: row.agent_identifier,
    cpuCores: row.cpu_cores,
    memoryMb: row.memory_mb,
    diskGb: row.disk_gb,
    pids: row.pids,
    ports: row.ports_json,
    metadata: row.metadata_json,
    capabilities: row.capabilities_json,
    idleTimeoutSeconds: row.idle_timeout_seconds,
    maxLifetimeSeconds: row.max_lifetime_seconds,
    idleAction: row.idle_action,
    autoResume: row.auto_resume === 1,
    callId: row.call_id,
    socketPath: row.socket_path,
    createdAt: row.created_at,
    lastActivityAt: row.last_activity_at,
    stoppedAt: row.stopped_at,
  }
}

const ProvisionRow = z.object({
  call_id: z.int(),
  owner: z.string(),
  sandbox_id: z.string(),
  is_public: z.int(),
  phase: Provision.shape.phase,
  message: z.string().nullable(),
  started_at: z.int(),
  updated_at: z.int(),
})

/** The reference's percent of each phase. */
const progress: Record<Provision['phase'], number> = {
  queued: 0,
  image_pull: 20,
  container_create: 40,
  container_start: 60,
  health_check: 80,
  ready: 100,
  failed: 0,
}

export function toProvision(raw: Record<string, unknown>): ProvisionRecord {
  const { is_public, ...row } = ProvisionRow.parse(raw)
  return { ...row, isPublic: is_public === 1, progress_pct: progress[row.phase], sidecar_url: null, metadata: null }
}

export const toEvent = (raw: Record<string, unknown>): SandboxEvent =>
  SandboxEvent.parse({
    seq: raw['seq'],
    type: raw['type'],
    sandbox_id: raw['sandbox_id'],
    at: raw['at'],
    data: JSON.parse(String(raw['data_json'])),
  })
