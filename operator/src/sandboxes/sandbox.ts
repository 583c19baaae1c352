import type { EndReason, RuntimeName, SandboxStatus } from '@atoll/protocol'

/** A sandbox as the store remembers it. Times are unix milliseconds. */
export interface SandboxRecord {
  readonly id: string
  readonly owner: string
  readonly serviceId: number
  /** Raised by every write; a write with a stale one is refused. */
  readonly version: number
  readonly state: SandboxStatus
  readonly end: EndReason | undefined
  readonly runtime: RuntimeName
  readonly name: string
  readonly image: string
  readonly agentIdentifier: string
  readonly cpuCores: number
  readonly memoryMb: number
  readonly diskGb: number
  readonly pids: number
  readonly ports: readonly number[]
  readonly metadata: Readonly<Record<string, unknown>>
  readonly capabilities: readonly string[]
  readonly idleTimeoutSeconds: number
  readonly maxLifetimeSeconds: number
  /** What becomes of it when it is idle. */
  readonly idleAction: 'stop' | 'pause'
  /** Whether its use resumes it. */
  readonly autoResume: boolean
  readonly callId: number
  readonly socketPath: string | undefined
  readonly createdAt: number
  readonly lastActivityAt: number
  readonly stoppedAt: number | undefined
}

/** Which state may follow which. Whatever is not here is a defect of the caller. */
const legalMoves: Readonly<Record<SandboxStatus, readonly SandboxStatus[]>> = {
  creating: ['running', 'deleting', 'ended'],
  running: ['paused', 'stopped', 'deleting', 'ended'],
  paused: ['running', 'stopped', 'deleting', 'ended'],
  stopped: ['running', 'deleting', 'ended'],
  deleting: ['ended'],
  ended: ['deleting'],
}

export const mayMove = (from: SandboxStatus, to: SandboxStatus): boolean => legalMoves[from].includes(to)
