// Runs a program of this machine and tells how it ended, within a time.
import { execFile } from 'node:child_process'

export interface Outcome {
  /** Undefined: it could not be started, or was killed. */
  readonly code: number | undefined
  readonly output: string
  readonly isMissing: boolean
}

export function runProgram(program: string, args: readonly string[], timeoutMs = 10_000): Promise<Outcome> {
  return new Promise((resolve) => {
    const options = { timeout: timeoutMs, killSignal: 'SIGKILL', encoding: 'utf8', maxBuffer: 1_048_576 } as const
    execFile(program, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : undefined
      const isMissing = error !== null && 'code' in error && String(error.code) === 'ENOENT'
      resolve({ code, output: `${stdout}${stderr}`.trim(), isMissing })
    })
  })
}

/** The first line of what a program said, for a table. */
export const firstLine = (text: string): string => text.split('\n')[0]?.trim() ?? ''
