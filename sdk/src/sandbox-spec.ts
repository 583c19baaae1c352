import type { CreateSandboxInput, RuntimeName } from '@atoll/protocol'
import { type EgressOptions, policyOf } from './egress.ts'

/** What a sandbox is made from. Everything may be left out; 0 in a size or timeout means the operator's default, too. */
export interface SandboxSpec {
  /** The service that it belongs to; your default one when not given. */
  readonly serviceId?: number | undefined
  /** Id of a snapshot to begin with: its disk, and its image, sizes, ports and metadata where nothing else is given. */
  readonly snapshot?: string | undefined
  /** For people; its id when not given. */
  readonly name?: string | undefined
  /** Image to start from; the operator's own when not given. */
  readonly image?: string | undefined
  /** Environment of every process in it. */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Whatever helps to find it again, at most 64 KiB as JSON. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined
  /** Ports that can be reached from outside through the operator, at most 8. */
  readonly ports?: readonly number[] | undefined
  /** What it may reach of the world; what the operator says when not given. */
  readonly egress?: EgressOptions | undefined
  /** Where it runs; the operator's default when not given. */
  readonly runtime?: RuntimeName | undefined
  readonly cpuCores?: number | undefined
  readonly memoryMb?: number | undefined
  readonly diskGb?: number | undefined
  /** Seconds without use after which it is stopped or paused. */
  readonly idleTimeoutSeconds?: number | undefined
  /** Seconds after which it is ended for good. */
  readonly maxLifetimeSeconds?: number | undefined
  /** What becomes of it when it is idle; `stop` when not given. A paused one is stopped when it is idle for as long again. */
  readonly idleAction?: 'stop' | 'pause' | undefined
  /** Whether it is resumed by being used. */
  readonly autoResume?: boolean | undefined
}

export function creationOf(spec: SandboxSpec): CreateSandboxInput {
  const { env, metadata, ports, runtime, egress } = spec
  const sizes = {
    service_id: spec.serviceId,
    snapshot: spec.snapshot,
    name: spec.name,
    image: spec.image,
    cpu_cores: spec.cpuCores,
    memory_mb: spec.memoryMb,
    disk_gb: spec.diskGb,
    idle_timeout_seconds: spec.idleTimeoutSeconds,
    max_lifetime_seconds: spec.maxLifetimeSeconds,
    idle_action: spec.idleAction,
    auto_resume: spec.autoResume,
  }
  return {
    ...Object.fromEntries(Object.entries(sizes).filter(([, value]) => value !== undefined)),
    ...(env && { env_json: { ...env } }),
    ...(egress && { egress: policyOf(egress) }),
    metadata_json: { ...metadata, ...(ports && { ports: [...ports] }), ...(runtime && { runtime_backend: runtime }) },
  }
}
