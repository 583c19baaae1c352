// Runs a program as the sandbox's user, in a process group of its own, of which nothing is left afterwards.
import { spawn } from 'node:child_process'

const sandboxUser = { uid: 1000, gid: 1000 }
const isRoot = process.getuid?.() === 0
/** Harnesses are never run as root. */
export const user = isRoot ? sandboxUser : undefined

export interface Run {
  readonly command: string
  readonly argv: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

export interface Outcome {
  readonly stdout: string
  readonly stderr: string
  /** What it ended with, in words: `exited with 0`. */
  readonly end: string
  readonly isGood: boolean
}

export function run({ command, argv, cwd, env, timeoutMs }: Run): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(command, argv, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'], ...user })
    const stdout: string[] = []
    const stderr: string[] = []
    child.stdout.setEncoding('utf8').on('data', (text: string) => stdout.push(text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => stderr.push(text))
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      killGroup(child.pid)
    }, timeoutMs)
    const finish = (end: string, isGood: boolean): void => {
      clearTimeout(timer)
      resolve({ stdout: stdout.join(''), stderr: stderr.join(''), end, isGood })
    }
    child.on('error', ({ message }) => finish(`could not be started: ${message}`, false))
    child.on('exit', () => killGroup(child.pid))
    child.on('close', (code, signal) => {
      if (isLate) finish(`was not done after ${timeoutMs / 1000} s`, false)
      else finish(signal ? `was ended by ${signal}` : `exited with ${code}`, code === 0)
    })
  })
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nobody is left in the group.
  }
}
