// Processes of the host told apart from later ones that get the same number.
import { readFileSync } from 'node:fs'

export interface ProcessIdentity {
  readonly pid: number
  /** In the kernel's ticks since it started: no two processes of one number share it. */
  readonly startTime: string
  /** The running kernel, since ticks begin again with each. */
  readonly boot: string
}

const boot = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()

/** State letter and start time, or undefined when there is no such process. The name before them may hold blanks and brackets. */
function statusOf(pid: number): { state: string; startTime: string } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return { state: fields[0] ?? '', startTime: fields[19] ?? '' }
  } catch {
    return undefined // Gone, which is an answer.
  }
}

/** @throws Error when the process has ended already */
export function processIdentity(pid: number): ProcessIdentity {
  const status = statusOf(pid)
  if (!status) throw new Error(`process ${pid} has ended`)
  return { pid, startTime: status.startTime, boot: boot() }
}

/** Whether that very process runs; one that has died and waits to be reaped does not. */
export function isAlive({ pid, startTime, boot: since }: ProcessIdentity): boolean {
  const status = statusOf(pid)
  return status !== undefined && status.startTime === startTime && status.state !== 'Z' && status.state !== 'X' && since === boot()
}

/** Signals that very process; one that has ended is left alone. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isAlive(identity)) return
  try {
    process.kill(identity.pid, signal)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** Direct children; empty when it has ended, or when the kernel does not tell. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
