// Runs a test file in a network of its own, where it may have the addresses of the whole internet.
import { spawn } from 'node:child_process'
import { once } from 'node:events'

const mark = 'ATOLL_TEST_NETWORK'

/** Calls `define` in the new network. Outside of it, the same file is run there, and its results are this process's own. */
export async function inOwnNetwork(file: string, define: () => void): Promise<void> {
  if (process.env[mark] === 'own') return define()
  const env = { ...process.env, [mark]: 'own' }
  const child = spawn('unshare', ['-n', process.execPath, ...process.execArgv, file], { stdio: 'inherit', env })
  process.once('SIGTERM', () => child.kill('SIGTERM'))
  const [status] = await once(child, 'exit')
  process.exitCode = status ?? 1
}
