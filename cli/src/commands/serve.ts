import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Failure } from '@atoll/sdk'
import type { Command } from 'commander'
import { example } from '../example.ts'
import { portOrFree } from '../values.ts'

interface ServeOptions {
  readonly port?: number
  readonly host?: string
  readonly stateDir?: string
  readonly runtime?: string
}

const sidecarBundler = fileURLToPath(new URL('../../../sidecar/scripts/bundle.ts', import.meta.url))
const operatorMain = fileURLToPath(new URL('../../../operator/src/main.ts', import.meta.url))

export function addServe(program: Command): void {
  program
    .command('serve')
    .description('Start the operator on this machine, until Ctrl-C. Every other setting is an environment variable.')
    .option('--port <port>', 'port to listen on (9090); 0 takes a free one', portOrFree)
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
  await bundleSidecar()
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

/** The program that the operator puts into sandboxes; made once, and again when its sources have changed. */
async function bundleSidecar(): Promise<void> {
  const child = spawn(process.execPath, [sidecarBundler], { stdio: ['ignore', 'ignore', 'inherit'] })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Failure('config.invalid', 'The sidecar could not be bundled; the reason stands above.')
}

function settings({ port, host, stateDir, runtime }: ServeOptions): Record<string, string> {
  return {
    ...(port !== undefined && { ATOLL_PORT: String(port) }),
    ...(host !== undefined && { ATOLL_HOST: host }),
    ...(stateDir !== undefined && { ATOLL_STATE_DIR: stateDir }),
    ...(runtime !== undefined && { SANDBOX_RUNTIME_BACKEND: runtime }),
  }
}
