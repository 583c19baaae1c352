// A sandbox under test with hands inside it.
import assert from 'node:assert/strict'
import type { ExecResult } from '@atoll/protocol'
import { openHttpGuest } from '../../../guest-channel/http-guest.ts'
import type { Running, StartContext } from '../../../sandboxes/runtime.ts'

export const contextOf = (context: Partial<StartContext> = {}): StartContext => ({
  signal: new AbortController().signal,
  progress: () => undefined,
  ...context,
})

/** Runs one command through the sidecar; its status is the caller's to look at. */
export async function exec(running: Running, argv: readonly string[]): Promise<ExecResult> {
  const guest = openHttpGuest(running.socketPath)
  try {
    await guest.ready(30_000, AbortSignal.timeout(30_000))
    return await guest.call<ExecResult>({ method: 'POST', path: '/exec', body: { argv } })
  } finally {
    guest.close()
  }
}

/** Output of a shell command that must succeed. */
export async function sh(running: Running, command: string): Promise<string> {
  const result = await exec(running, ['/bin/sh', '-c', command])
  assert.equal(result.exit_code, 0, result.stderr)
  return result.stdout.trim()
}
