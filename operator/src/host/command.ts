// Runs a program of the host to its end, with none of the operator's environment.
import { execFile } from 'node:child_process'

const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The whole environment that a program of the host is given. */
export const hostEnvironment: Readonly<Record<string, string>> = { PATH: searchPath, LC_ALL: 'C' }

const deadlineMs = 60_000

/** Standard output. @throws Error with the program's own words when it fails, cannot be found or takes over a minute */
export const runCommand = (program: string, args: readonly string[]): Promise<string> =>
  new Promise((resolve, reject) => {
    execFile(program, args, { env: { ...hostEnvironment }, timeout: deadlineMs, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${program} failed: ${stderr.trim() || error.message}`, { cause: error }))
      else resolve(stdout)
    })
  })
