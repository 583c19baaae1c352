// bubblewrap without Atoll.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Bare, Invocation } from './subject.ts'

const wall = ['--unshare-all', '--die-with-parent', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc', '--tmpfs', '/tmp']

const inNamespaces = (argv: readonly string[]): Invocation => ['bwrap', ...wall, ...argv]

async function create(): Promise<number> {
  const startedAt = performance.now()
  const [program, ...args] = inNamespaces(['echo', 'ready'])
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  await once(child.stdout, 'data')
  const readMs = performance.now() - startedAt
  await closed
  return readMs
}

export const bareNamespace: Bare = {
  name: 'bwrap alone',
  create,
  invocationName: 'bwrap alone',
  // There is no door into a sandbox but ours, so a new one is the bound.
  invocation: (_, argv) => inNamespaces(argv),
}
