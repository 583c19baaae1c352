import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Failure } from '@atoll/sdk'
import type { Command } from 'commander'
import { example } from '../example.ts'
import { port } from '../values.ts'

interface ServeOptions {
  readonly port?: number
  readonly host?: string
  readonly stateDir?: string
  readonly runtime?: string
}

const operatorMain = fileURLToPath(new URL('../../../operator/src/main.ts', import.meta.url))

export function addServe(program: Command): void {
  program
    .command('serve')
    .description('Start the operator on this machine, until Ctrl-C. Every other setting is an environment variable.')
    .option('--port <port>', 'port to listen on (9090)', port)
    .option('--host <address>', 'address to listen on (127.0.0.1)')
    .option('--state-dir <folder>', 'folder for its database, keys and disks')
    .option('--runtime <name>', 'runtime of sandboxes that do not name one: docker or namespace')
    .addHelpText('after', example('atoll serve --port 9090'))
    .action(serve)
}

async function serve(options: ServeOptions): Promise<void> {
  if (!existsSync(operatorMain)) {
    throw new Failure('config.invalid', `The operator is not here (${operatorMain}). Run this command from a copy of the whole repository.`)
  }
  const child = spawn(process.execPath, [operatorMain], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...settings(options) },
  })
  // A terminal's Ctrl-C reaches the operator by itself; a signal to this process alone is passed on.
  process.on('SIGINT', () => process.stdin.isTTY || child.kill('SIGINT'))
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  process.on('SIGHUP', () => child.kill('SIGTERM'))
  const [code] = await once(child, 'exit')
  process.exitCode = typeof code === 'number' ? code : 1
}

function settings({ port: portNumber, host, stateDir, runtime }: ServeOptions): Record<string, string> {
  return {
    ...(portNumber !== undefined && { ATOLL_PORT: String(portNumber) }),
    ...(host !== undefined && { ATOLL_HOST: host }),
    ...(stateDir !== undefined && { ATOLL_STATE_DIR: stateDir }),
    ...(runtime !== undefined && { SANDBOX_RUNTIME_BACKEND: runtime }),
  }
}
