// Runs the atoll command as a person does: as a process of its own, through its bin file.
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { TestOperator } from '../../tests/start-operator.ts'

const bin = fileURLToPath(new URL('../bin/atoll.mjs', import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly stdout: Buffer
  readonly stderr: string
  readonly text: string
}

export interface RunOptions {
  readonly input?: string | Uint8Array
  /** Keeps standard input open. */
  readonly isInputOpen?: boolean
  readonly env?: Readonly<Record<string, string>>
  readonly onStart?: (child: ChildProcess) => void
}

/** An atoll command that talks to the operator with its admin key. */
export const commandFor =
  (operator: TestOperator) =>
  (args: readonly string[], options: RunOptions = {}): Promise<Ended> =>
    atoll(args, { ...options, env: { ATOLL_URL: operator.url, ATOLL_API_KEY: operator.adminKey, ...options.env } })

export function atoll(args: readonly string[], { input, isInputOpen, env, onStart }: RunOptions = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, ...args], { env: { PATH: process.env['PATH'], HOME: '/nonexistent', ...env } })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    // A command that ends without reading its input is not this helper's business.
    child.stdin.on('error', () => undefined)
    if (!isInputOpen) child.stdin.end(input)
    child.once('error', reject)
    child.once('close', (code) => {
      const out = Buffer.concat(stdout)
      resolve({ code, stdout: out, text: out.toString(), stderr: Buffer.concat(stderr).toString() })
    })
    onStart?.(child)
  })
}
