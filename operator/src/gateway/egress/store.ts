import type { EgressPolicy } from '@atoll/protocol'
import type { NewEvent } from '../../sandboxes/store.ts'

/** Every method is one transaction, durable when it resolves. */
export interface EgressStore {
  /** Undefined: none was set. */
  policy(sandboxId: string): Promise<EgressPolicy | undefined>
  /** The event is written with it. */
  setPolicy(sandboxId: string, policy: EgressPolicy, event: NewEvent): Promise<void>
  /** The sealed secrets that are put into requests; undefined: there are none. */
  bindings(sandboxId: string): Promise<string | undefined>
  /** Nothing is sealed for a sandbox that has ended. The event is written with it. */
  setBindings(sandboxId: string, sealed: string, event: NewEvent): Promise<void>
  /** The sealed keys of the sandbox's authority; undefined: it has none. */
  authority(sandboxId: string): Promise<string | undefined>
  /** Nothing is sealed for a sandbox that has ended. */
  setAuthority(sandboxId: string, sealed: string): Promise<void>
}
