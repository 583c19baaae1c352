// Ends processes by what is in their environment, also those that left their group and their parents. This runs as the sandbox user,
// who may read that of its own processes, which the sidecar may not.
import { readdirSync, readFileSync } from 'node:fs'

export interface ProcessMark {
  /** `NAME=value`, as it stands in the environment. */
  readonly variable: string
  /** Sessions that were started with it; who left the variable behind may still be in one. */
  readonly sessions: readonly number[]
  /** Leaves alone what has begun a session of its own. */
  readonly sparesDetached?: boolean
}

export interface KilledProcesses {
  readonly killed: number
  readonly spared: number
}

interface Seen {
  readonly pid: number
  readonly session: number
  readonly isMarked: boolean
}

/** Undefined for what is not the user's, or has ended meanwhile. */
function look(pid: number, variable: string): Seen | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name, in brackets, may hold anything; behind it stand state, parent, group and session.
    const [state, , , session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (state === 'Z' || state === 'X') return undefined
    const isMarked = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(variable)
    return { pid, session: Number(session), isMarked }
  } catch {
    return undefined
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended, or belongs to somebody else by now.
  }
}

/** Kills what carries the mark or is in a session of such processes. Answers how many there were. */
export function killMarked({ variable, sessions, sparesDetached = false }: ProcessMark): KilledProcesses {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const all = pids.flatMap((name) => look(Number(name), variable) ?? [])
  const marked = all.filter(({ isMarked }) => isMarked)
  const wanted = new Set([...sessions, ...(sparesDetached ? [] : marked.map(({ session }) => session))])
  // A number may be another process's by now; and whoever began a session without the mark began it for something else.
  for (const { pid, isMarked } of all) if (!isMarked) wanted.delete(pid)
  const isToGo = ({ session, isMarked }: Seen): boolean => wanted.has(session) || (isMarked && !sparesDetached)
  const found = all.filter((one) => one.pid !== process.pid && isToGo(one))
  for (const { pid } of found) kill(pid)
  return { killed: found.length, spared: marked.filter((one) => !isToGo(one)).length }
}
