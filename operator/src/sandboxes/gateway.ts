import type { GatewayEnvironment } from '@atoll/protocol/sidecar'
import type { SandboxRecord } from './sandbox.ts'

/** Whose door it is. */
export type GatewayCaller = Pick<SandboxRecord, 'id' | 'owner' | 'serviceId'>

/** The operator's door for everything that leaves a sandbox. A sandbox whose door fails goes on without. */
export interface Gateway {
  /** Listens in the sandbox's channel directory; a socket that an earlier operator left there is replaced. Safe to repeat. */
  open(caller: GatewayCaller, directory: string): Promise<void>
  /** Ends what is under way. */
  close(id: string): void
  /** What processes of a sandbox find of it. */
  environment(caller: GatewayCaller): Promise<GatewayEnvironment>
}
