// Moves of a sandbox from state to state: one at a time, on the record as it is, each written down with its event.
import type { EndReason, SandboxStatus } from '@atoll/protocol'
import { Failure } from '@atoll/protocol'
import type { Locks } from './locks.ts'
import { mayMove, type SandboxRecord } from './sandbox.ts'
import type { NewEvent, SandboxChange, Store } from './store.ts'

export interface MovesParts {
  readonly store: Store
  readonly locks: Locks
}

export class Moves {
  readonly #parts: MovesParts

  constructor(parts: MovesParts) {
    this.#parts = parts
  }

  /** Runs with the sandbox to itself, on the record as it is then. */
  exclusive<Result>(id: string, work: (current: SandboxRecord) => Promise<Result>): Promise<Result> {
    return this.#parts.locks.run(id, async () => {
      const current = await this.#parts.store.get(id)
      if (!current) throw new Failure('sandbox.not_found', `No sandbox ${id}.`)
      return work(current)
    })
  }

  /** @throws Failure `sandbox.busy` when somebody else has changed it since it was read */
  async move(from: SandboxRecord, to: SandboxStatus, change: SandboxChange, event: Omit<NewEvent, 'sandboxId'>): Promise<SandboxRecord> {
    if (!mayMove(from.state, to)) throw new Failure('internal', `A sandbox cannot go from ${from.state} to ${to}.`)
    const moved = await this.#parts.store.move(from, to, change, { ...event, sandboxId: from.id })
    if (!moved) throw busy(from)
    return moved
  }

  /** Changes a sandbox that stays in its state. @throws as `move` */
  async change(from: SandboxRecord, change: SandboxChange, event: Omit<NewEvent, 'sandboxId'>): Promise<SandboxRecord> {
    const changed = await this.#parts.store.move(from, from.state, change, { ...event, sandboxId: from.id })
    if (!changed) throw busy(from)
    return changed
  }

  end(from: SandboxRecord, end: EndReason): Promise<SandboxRecord> {
    const type = end.reason === 'deleted' ? 'sandbox.deleted' : 'sandbox.ended'
    return this.move(from, 'ended', { end, socketPath: undefined }, { type, data: { ...end } })
  }
}

const busy = ({ id }: SandboxRecord): Failure =>
  new Failure('sandbox.busy', `Sandbox ${id} was changed by somebody else meanwhile. Try again.`, { retryAfterMs: 500 })

/** @throws Failure `sandbox.busy`, or `sandbox.ended` */
export function assertState(sandbox: SandboxRecord, allowed: readonly SandboxStatus[]): void {
  if (allowed.includes(sandbox.state)) return
  if (sandbox.state === 'ended') throw endFailure(sandbox)
  throw new Failure('sandbox.busy', `Sandbox ${sandbox.id} is ${sandbox.state}. Wait until it is ${allowed.join(' or ')}.`, {
    retryAfterMs: 1000,
  })
}

export function endFailure(sandbox: SandboxRecord): Failure {
  const { end } = sandbox
  return new Failure(
    'sandbox.ended',
    `Sandbox ${sandbox.id} has ended (${end?.reason ?? 'unknown'})${end?.message ? `: ${end.message}` : '.'}`,
  )
}
