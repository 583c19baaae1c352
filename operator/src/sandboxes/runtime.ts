import type { RuntimeName } from '@atoll/protocol'

/** What a runtime is asked to make. Sizes are what the sandbox really gets: nothing is 0, nothing is unlimited. */
export interface Plan {
  readonly id: string
  /** Image reference; empty means the runtime's own default. */
  readonly image: string
  readonly cpuCores: number
  readonly memoryMb: number
  readonly diskGb: number
  readonly pids: number
  /** Image of the disk that a start takes over as it is; a blank disk when not given. */
  readonly seed?: string
}

export type StartPhase = 'image_pull' | 'container_create' | 'container_start'

export interface StartContext {
  readonly signal: AbortSignal
  /** Called when a phase begins. */
  readonly progress: (phase: StartPhase, message?: string) => void
}

/** A started sandbox. Its sidecar may still be a moment away from listening. */
export interface Running {
  /** Unix socket of the sidecar, on the operator's side. */
  readonly socketPath: string
  /** What was really started, resolved from an empty or moving image name. */
  readonly image: string
}

/** What is really there, whatever the store says. */
export interface Observed {
  readonly id: string
  readonly state: 'running' | 'paused' | 'stopped'
  readonly socketPath: string
}

/** What an image is at this moment, without starting anything. */
export interface ImageClaim {
  /** Another one when the content is another. */
  readonly id: string
  /** Whether it says of itself that harnesses are in it, which only a probe can prove. */
  readonly claimsHarnesses: boolean
}

export type LimitName = 'memory' | 'cpu' | 'pids' | 'disk'

/** What a probe saw on this machine. A limit is true when it holds, else the reason why it cannot. */
export interface Probe {
  readonly available: boolean
  /** Why it is not available, and what to do. */
  readonly reason?: string
  readonly version?: string
  /** How strong the wall is, in one sentence. */
  readonly isolation: string
  readonly limits: Readonly<Record<LimitName, true | string>>
  readonly features: readonly string[]
}

/**
 * A place where sandboxes run. What all have in common belongs to lifecycle.ts, not here. Every method that takes an id is safe to
 * repeat, also after half of it was done. Methods throw Failures: `runtime.unavailable` when the place does not answer (nothing may be
 * concluded about a sandbox from that), `image.*` before anything is made.
 */
export interface Runtime {
  readonly name: RuntimeName
  /** Really starts something, so that what it says is true. Never throws. */
  probe(signal: AbortSignal): Promise<Probe>
  /** Cheap: does the place answer at all? Resolves with the reason when not. */
  ping(signal: AbortSignal): Promise<string | undefined>
  /** Makes and starts. A failed or aborted start leaves nothing behind. */
  start(plan: Plan, context: StartContext): Promise<Running>
  /** Ends every process, also of a paused one, and keeps the disk. Succeeds when it is stopped or gone already. */
  stop(id: string): Promise<void>
  /** Freezes every process; what they hold in memory stays. @throws Failure `runtime.unsupported` where this cannot be done */
  pause(id: string): Promise<void>
  /** Lets a paused sandbox go on. */
  unpause(id: string): Promise<void>
  /** Starts a stopped sandbox with its disk; the same sandbox answers when it runs already. */
  resume(plan: Plan, context: StartContext): Promise<Running>
  /** Ends it and its disk. Succeeds when it is gone already. */
  remove(id: string): Promise<void>
  /** Undefined when the image is not here; an empty name means the runtime's own default. */
  imageClaim(image: string): Promise<ImageClaim | undefined>
  /** Everything of this operator that is really there. */
  list(): Promise<readonly Observed[]>
  /** Frees what the operator's process holds; sandboxes go on running. */
  close(): Promise<void>
}
