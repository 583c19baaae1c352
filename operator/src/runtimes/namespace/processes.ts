// Ends the processes of a sandbox, and does not return before they are gone.
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '@atoll/protocol'
import type { Cgroups } from '../../host/cgroup.ts'
import { childrenOf, isAlive, type ProcessIdentity, processIdentity, signalProcess } from './process-identity.ts'
import type { SandboxRecord } from './sandbox-folder.ts'
import { groupOf } from './uid-ranges.ts'

const pollMs = 5
const killDeadlineMs = 10_000

async function until(condition: () => boolean, deadlineMs: number): Promise<boolean> {
  const deadline = Date.now() + deadlineMs
  while (!condition()) {
    if (Date.now() > deadline) return false
    await delay(pollMs)
  }
  return true
}

/** Whether the sandbox works: its first process lives, and so does bubblewrap, which ends with the sidecar. */
export const isRunning = ({ first, monitor }: SandboxRecord): boolean =>
  first !== undefined && monitor !== undefined && isAlive(first) && isAlive(monitor)

/** Whether its sidecar has died and left processes that nobody can reach. */
export const isAbandoned = ({ first, monitor }: SandboxRecord): boolean =>
  first !== undefined && isAlive(first) && !(monitor && isAlive(monitor))

/** None when it has ended meanwhile. */
function identified(pid: number): ProcessIdentity[] {
  try {
    return [processIdentity(pid)]
  } catch {
    return []
  }
}

/** Asks the sidecar to end everything within the grace, then kills what is left. @throws Failure when something survives */
export async function endProcesses(record: SandboxRecord, cgroups: Cgroups, graceMs: number): Promise<void> {
  const { first, monitor } = record
  const { id } = record.plan
  // What is frozen does not even die.
  await cgroups.thaw(groupOf(record.base))
  if (first && graceMs > 0 && isAlive(first)) {
    for (const child of childrenOf(first.pid).flatMap(identified)) signalProcess(child, 'SIGTERM')
    await until(() => !isAlive(first), graceMs)
  }
  // With the first process of a pid namespace the kernel kills all the others. An operator that died early has not written it down.
  const firsts = first ? [first] : monitor && isAlive(monitor) ? childrenOf(monitor.pid).flatMap(identified) : []
  for (const process of [...firsts, monitor]) if (process) signalProcess(process, 'SIGKILL')
  try {
    await cgroups.kill(groupOf(record.base))
  } catch (cause) {
    throw new Failure('internal', `Processes of sandbox ${id} could not be ended. Try again.`, { cause })
  }
  const areGone = () => [...firsts, monitor].every((process) => process === undefined || !isAlive(process))
  if (!(await until(areGone, killDeadlineMs))) throw new Failure('internal', `Processes of sandbox ${id} do not end. Try again.`)
}
