// Records as callers see them.
import type { Sandbox, Snapshot } from '@atoll/protocol'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'
import type { SnapshotRecord } from '../sandboxes/snapshot-store.ts'
import type { Store } from '../sandboxes/store.ts'

const seconds = (ms: number): number => Math.floor(ms / 1000)

interface ViewParts {
  readonly store: Store
  readonly publicUrl: () => string
  readonly managingOperator: string | undefined
  /** Whether a service has a key of any provider. */
  readonly hasProviderKey: (serviceId: number) => Promise<boolean>
}

export class View {
  readonly #store: Store
  readonly #publicUrl: () => string
  readonly #managingOperator: string | undefined
  readonly #hasProviderKey: ViewParts['hasProviderKey']

  constructor(parts: ViewParts) {
    this.#store = parts.store
    this.#hasProviderKey = parts.hasProviderKey
    this.#publicUrl = parts.publicUrl
    this.#managingOperator = parts.managingOperator
  }

  async sandbox(record: SandboxRecord): Promise<Sandbox> {
    const isRunning = record.state === 'running'
    return {
      id: record.id,
      name: record.name,
      image: record.image,
      sidecar_url: isRunning ? this.sidecarUrl(record.id) : '',
      state: isRunning ? 'running' : 'stopped',
      status: record.state,
      ...(record.state === 'ended' && record.end && { end: record.end }),
      runtime: record.runtime,
      ...(record.agentIdentifier && { agent_identifier: record.agentIdentifier }),
      cpu_cores: record.cpuCores,
      memory_mb: record.memoryMb,
      disk_gb: record.diskGb,
      created_at: seconds(record.createdAt),
      last_activity_at: seconds(record.lastActivityAt),
      ...(record.stoppedAt !== undefined && { stopped_at: seconds(record.stoppedAt) }),
      ssh_port: null,
      service_id: record.serviceId,
      ...(this.#managingOperator && { managing_operator: this.#managingOperator.toLowerCase() }),
      ...(record.ports.length > 0 && { extra_ports: this.ports(record) }),
      idle_timeout_seconds: record.idleTimeoutSeconds,
      max_lifetime_seconds: record.maxLifetimeSeconds,
      idle_action: record.idleAction,
      auto_resume: record.autoResume,
      credentials_available: await this.hasCredentials(record),
      circuit_breaker_active: false,
      circuit_breaker_probing: false,
      owner: record.owner,
      metadata: { ...record.metadata },
      call_id: record.callId,
    }
  }

  /** Where a sandbox's routes stand. Nothing else reaches its sidecar. */
  sidecarUrl(id: string): string {
    return `${this.#publicUrl()}/api/sandboxes/${id}`
  }

  /** The ports asked for. A port has the same number on both sides of the port proxy. */
  ports(record: SandboxRecord): Record<string, number> {
    return Object.fromEntries(record.ports.map((port) => [String(port), port]))
  }

  /** Whether the sandbox has an environment or secrets of its own, or its service a key: all that can be said without naming a provider. */
  async hasCredentials(record: SandboxRecord): Promise<boolean> {
    const sealed = await this.#store.sealed(record.id)
    return sealed.env !== undefined || sealed.secrets !== undefined || this.#hasProviderKey(record.serviceId)
  }
}

export const snapshotView = (record: SnapshotRecord, percent: number): Snapshot => ({
  id: record.id,
  name: record.name,
  owner: record.owner,
  sandbox_id: record.sandboxId,
  service_id: record.serviceId,
  state: record.state,
  progress_pct: percent,
  ...(record.error && { error: { ...record.error } }),
  runtime: record.template.runtime,
  image: record.template.image,
  cpu_cores: record.template.cpuCores,
  memory_mb: record.template.memoryMb,
  disk_gb: record.template.diskGb,
  ports: [...record.template.ports],
  size_bytes: record.sizeBytes,
  created_at: seconds(record.createdAt),
})
