// What a copy of a sandbox is made like, where whoever asks for it does not say.
import { type CreateSandbox, Failure } from '@atoll/protocol'
import { requestedRuntime } from './backend.ts'
import type { Template } from './snapshot-store.ts'

/** @throws Failure `request.invalid` where the disk would not fit */
export function likeTemplate(spec: CreateSandbox, template: Template): CreateSandbox {
  if (spec.disk_gb > 0 && spec.disk_gb < template.diskGb) {
    throw new Failure(
      'request.invalid',
      `disk_gb ${spec.disk_gb} is less than the ${template.diskGb} GB of the disk that is copied. Ask for as much, or 0.`,
    )
  }
  const runtime = requestedRuntime(spec)
  if (runtime !== undefined && runtime !== template.runtime) {
    throw new Failure(
      'request.invalid',
      `The disk is one of a ${template.runtime} sandbox and cannot be used by another runtime. Leave the runtime out.`,
    )
  }
  const { runtime: _, ...metadata } = template.metadata
  return {
    ...spec,
    image: spec.image || template.image,
    agent_identifier: spec.agent_identifier || template.agentIdentifier,
    cpu_cores: spec.cpu_cores || template.cpuCores,
    memory_mb: spec.memory_mb || template.memoryMb,
    disk_gb: spec.disk_gb || template.diskGb,
    capabilities_json: spec.capabilities_json.length > 0 ? spec.capabilities_json : [...template.capabilities],
    metadata_json: { ports: [...template.ports], ...metadata, ...spec.metadata_json, runtime_backend: template.runtime },
  }
}

/** The service of what is copied, where that is of the same owner. */
export function serviceOf(spec: CreateSandbox, source: { owner: string; serviceId: number }, owner: string): { service_id?: number } {
  const serviceId = spec.service_id ?? (source.owner === owner ? source.serviceId : undefined)
  return serviceId === undefined ? {} : { service_id: serviceId }
}
