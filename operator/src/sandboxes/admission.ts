// May this operator take one more sandbox, and how large may it be?
import { type CreateSandbox, Failure } from '@atoll/protocol'
import type { SandboxRecord } from './sandbox.ts'
import type { Store } from './store.ts'

/** Sizes in the units of their names. A budget or maximum of 0 means none. */
export interface Limits {
  readonly defaultCpuCores: number
  readonly defaultMemoryMb: number
  readonly defaultDiskGb: number
  readonly maxCpuCores: number
  readonly maxMemoryMb: number
  readonly maxDiskGb: number
  readonly pids: number
  readonly maxCount: number
  readonly memoryBudgetMb: number
  readonly cpuBudget: number
  /** What must be free on the disk that sandboxes are on, in MB. */
  readonly diskReserveMb: number
  readonly defaultIdleSeconds: number
  readonly maxIdleSeconds: number
  readonly defaultLifetimeSeconds: number
  readonly maxLifetimeSeconds: number
}

export interface Size {
  readonly cpuCores: number
  readonly memoryMb: number
  readonly diskGb: number
}

/** A sandbox smaller than this cannot run its own sidecar. */
const minMemoryMb = 64

function sizeOf(asked: number, fallback: number, max: number, field: string): number {
  if (max > 0 && asked > max) {
    throw new Failure('sandbox.too_large', `Requested ${field} ${asked} exceeds this operator's maximum of ${max}. Ask for less.`)
  }
  const size = asked === 0 ? fallback : asked
  return max > 0 ? Math.min(size, max) : size
}

/** The sizes that a sandbox really gets. @throws Failure `sandbox.too_large` */
export function sizesFor(spec: CreateSandbox, limits: Limits): Size {
  if (spec.memory_mb > 0 && spec.memory_mb < minMemoryMb) {
    throw new Failure(
      'request.invalid',
      `memory_mb ${spec.memory_mb} is below the ${minMemoryMb} MB that a sandbox needs. Ask for more, or 0 for the default.`,
    )
  }
  return {
    cpuCores: sizeOf(spec.cpu_cores, limits.defaultCpuCores, limits.maxCpuCores, 'cpu_cores'),
    memoryMb: sizeOf(spec.memory_mb, limits.defaultMemoryMb, limits.maxMemoryMb, 'memory_mb'),
    diskGb: sizeOf(spec.disk_gb, limits.defaultDiskGb, limits.maxDiskGb, 'disk_gb'),
  }
}

const timeout = (asked: number, fallback: number, max: number): number => Math.min(asked === 0 ? fallback : asked, max)

export const times = ({ cpuCores, memoryMb, diskGb }: Size, count: number): Size => ({
  cpuCores: cpuCores * count,
  memoryMb: memoryMb * count,
  diskGb: diskGb * count,
})

/** The idle timeout and lifetime that really hold, in seconds. */
export const timeoutsFor = (spec: CreateSandbox, limits: Limits): { idleTimeoutSeconds: number; maxLifetimeSeconds: number } => ({
  idleTimeoutSeconds: timeout(spec.idle_timeout_seconds, limits.defaultIdleSeconds, limits.maxIdleSeconds),
  maxLifetimeSeconds: timeout(spec.max_lifetime_seconds, limits.defaultLifetimeSeconds, limits.maxLifetimeSeconds),
})

const full = (what: string): Failure =>
  new Failure('capacity.exhausted', `${what} Stop or delete a sandbox, or try again later.`, { retryAfterMs: 30_000 })

export interface Admission {
  readonly size: Size
  readonly isNew: boolean
  /** How many sandboxes the size is the sum of; 1 when not given. */
  readonly count?: number | undefined
  /** Memory and CPU of resumes that are under way and not in the store yet. */
  readonly reserved: Size
  /** On the disk that sandboxes are on. */
  readonly freeDiskMb: number
}

/** @throws Failure `capacity.exhausted` */
export async function admit(store: Store, limits: Limits, asked: Admission): Promise<void> {
  if (asked.freeDiskMb < limits.diskReserveMb) {
    throw full(`The disk of this operator has ${asked.freeDiskMb} MB free, and keeps ${limits.diskReserveMb} MB.`)
  }
  const usage = await store.usage()
  const memoryMb = usage.memoryMb + asked.reserved.memoryMb + asked.size.memoryMb
  const cpuCores = usage.cpuCores + asked.reserved.cpuCores + asked.size.cpuCores
  if (limits.memoryBudgetMb > 0 && memoryMb > limits.memoryBudgetMb) {
    throw full(`The memory budget of ${limits.memoryBudgetMb} MB has no room for ${asked.size.memoryMb} MB more.`)
  }
  if (limits.cpuBudget > 0 && cpuCores > limits.cpuBudget) {
    throw full(`The CPU budget of ${limits.cpuBudget} cores has no room for ${asked.size.cpuCores} more.`)
  }
  if (asked.isNew && limits.maxCount > 0 && usage.sandboxes + (asked.count ?? 1) > limits.maxCount) {
    throw full(`Sandbox limit reached (${usage.sandboxes}/${limits.maxCount}).`)
  }
}

export const sizeOfRecord = ({ cpuCores, memoryMb, diskGb }: SandboxRecord): Size => ({ cpuCores, memoryMb, diskGb })
