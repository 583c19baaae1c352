// Stops the processes of a control group where they are: the freezer controller of version 1, or what every group of version 2 can.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '@atoll/protocol'
import type { CgroupLayout } from './cgroup-layout.ts'

export interface FreezerGroup {
  readonly directory: string
  readonly version: 1 | 2
}

const freezeDeadlineMs = 10_000
const pollMs = 1
/** With version 1, a process that is just being born can keep its group from freezing for ever: then it is let go for a moment. */
const polledBeforeLetGo = 25
const letGoMs = 5

/** Where groups can be frozen; undefined when this machine lets nobody. @param parent the operator's own group */
export function freezerOf(layout: CgroupLayout, parent: string): { readonly root: string; readonly version: 1 | 2 } | undefined {
  const v1 = layout.v1.get('freezer')
  const root = v1 ?? layout.v2?.root
  if (root === undefined) return undefined
  try {
    mkdirSync(join(root, parent), { recursive: true })
    return { root, version: v1 === undefined ? 2 : 1 }
  } catch {
    return undefined // Told to whoever wants to pause a sandbox.
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return '' // The group has gone meanwhile.
  }
}

export function isFrozen({ directory, version }: FreezerGroup): boolean {
  if (version === 1) return read(join(directory, 'freezer.state')).trim() === 'FROZEN'
  return /^frozen 1$/m.test(read(join(directory, 'cgroup.events')))
}

/** Resolves when it is so. @throws Failure `sandbox.busy` when a process cannot be stopped in time; it goes on then */
export async function setFrozen(group: FreezerGroup, isWanted: boolean): Promise<void> {
  const { directory, version } = group
  const write = (frozen: boolean): void => {
    if (version === 1) writeFileSync(join(directory, 'freezer.state'), frozen ? 'FROZEN' : 'THAWED')
    else writeFileSync(join(directory, 'cgroup.freeze'), frozen ? '1' : '0')
  }
  write(isWanted)
  const deadline = Date.now() + freezeDeadlineMs
  for (let polled = 1; isFrozen(group) !== isWanted; polled += 1) {
    if (isWanted && polled % polledBeforeLetGo === 0) {
      write(false)
      await delay(letGoMs)
    }
    if (isWanted) write(true)
    if (Date.now() > deadline) {
      write(false)
      throw new Failure('sandbox.busy', 'A process of the sandbox cannot be stopped just now. Try again.', { retryAfterMs: 2000 })
    }
    await delay(pollMs)
  }
}
