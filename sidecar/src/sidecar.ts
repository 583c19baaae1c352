// Puts the parts of the sidecar together.
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type RunRequest, type SidecarEnvironment, type SidecarHealth, sidecarGeneration, sidecarPaths } from '@atoll/protocol/sidecar'
import manifest from '../package.json' with { type: 'json' }
import { LazyAgents } from './agents/lazy-agents.ts'
import { Records } from './agents/records.ts'
import { adoptRootCredentials } from './agents/root-credentials.ts'
import { agentRoutes, recordRoutes } from './agents/routes.ts'
import { exec } from './commands/exec.ts'
import { Launcher } from './commands/launcher.ts'
import { Masters } from './commands/masters.ts'
import { createUnprotected } from './commands/oom-score.ts'
import { Pipes } from './commands/pipes.ts'
import { Processes, processRoutes } from './commands/processes.ts'
import type { Config } from './config.ts'
import { prepareDirectories } from './directories.ts'
import { Environment, readImageVariables } from './environment.ts'
import { FilesClient, fileRoutes } from './files/client.ts'
import { openGatewayPort } from './gateway-port.ts'
import { describe, type Log } from './log.ts'
import { portRoutes } from './ports.ts'
import type { Routes } from './router.ts'
import { createServer, listen } from './server.ts'
import { Terminals, terminalRoutes } from './terminals/terminals.ts'

const features = [
  'exec',
  'environment',
  'processes',
  'terminals',
  'terminal-socket',
  'files',
  'file-watch',
  'ports',
  'port-connect',
  'agents',
]
const closeMs = 1000

export interface Sidecar {
  /** Ends every process that was started here. */
  close(): Promise<void>
}

/** Sets the environment and the files of the secrets, one caller after the other. */
function configurer(environment: Environment, files: FilesClient): (given: SidecarEnvironment) => Promise<void> {
  let turn: Promise<void> = Promise.resolve()
  const apply = async (given: SidecarEnvironment): Promise<void> => {
    const gone = environment.secretNames.filter((name) => !Object.hasOwn(given.secrets, name))
    if (gone.length > 0 || Object.keys(given.secrets).length > 0) await files.writeSecrets({ secrets: given.secrets, gone })
    environment.replace(given)
  }
  return (given) => {
    const done = turn.then(() => apply(given))
    turn = done.catch(() => undefined)
    return done
  }
}

export async function startSidecar(config: Config, log: Log): Promise<Sidecar> {
  const unprotected = createUnprotected()
  const masters = new Masters()
  const pipes = new Pipes({ user: config.user, unprotected, masters, log })
  const left = prepareDirectories(config, log)
  const files = new FilesClient({ config, unprotected, masters, log })
  for (const directory of left) {
    await files.makeDirectory(directory).catch((error: unknown) => log('warn', `the user cannot make ${directory}`, describe(error)))
  }
  const environment = new Environment(config.user, readImageVariables(config.state, log))
  const checkDirectory = (directory: string): Promise<void> => files.checkDirectory(directory)
  const launcher = new Launcher({ config, environment, unprotected, masters, pipes, checkDirectory })
  const processes = new Processes(config, launcher)
  const terminals = new Terminals({ config, launcher, unprotected, masters })
  // Before the operator gives the environment, at which what waits may start.
  await adoptRootCredentials({ rootHome: config.rootHome, home: config.user.home, files, log })
  const records = new Records({
    directory: path.join(config.state, sidecarPaths.lastingState),
    runLogBytes: config.limits.runLogBytes,
    log,
  })
  const agents = new LazyAgents({ config, environment, launcher, files, records, log })
  const terminal = terminalRoutes(terminals, config)
  const configure = configurer(environment, files)
  const gateway = await openGatewayPort({ port: config.gatewayPort, gateway: config.gatewaySocketPath }, log)
  const ports = portRoutes(gateway?.port)
  const health = (): SidecarHealth => ({
    status: 'ok',
    generation: sidecarGeneration,
    version: manifest.version,
    uptime_ms: Math.round(process.uptime() * 1000),
    processes: launcher.liveCount,
    terminals: terminals.count,
    runs: records.openCount,
    features: gateway ? [...features, 'gateway'] : features,
  })
  const routes: Routes = {
    'GET /health': health,
    'PUT /environment': async (call) => {
      await configure(await call.json<SidecarEnvironment>())
      await agents.configured()
      return {}
    },
    'POST /exec': async (call) =>
      exec(launcher, await call.json<RunRequest>(), { limit: config.limits.execOutputBytes, signal: call.signal }),
    ...processRoutes(processes, config),
    ...fileRoutes(files),
    ...terminal.routes,
    ...recordRoutes(records, config.limits),
    ...agentRoutes(agents, records),
    ...ports.routes,
  }
  const upgrades = { ...terminal.upgrades, ...ports.upgrades }
  const server = createServer({ routes, upgrades, log })
  await listen(server, config.socketPath, 0o600)
  // Starting its shell takes some milliseconds, in which the sidecar is asked for already.
  pipes.prepare()
  const close = async (): Promise<void> => {
    server.close()
    gateway?.close()
    const runs = agents.close()
    for (const child of launcher.live) child.signal('SIGTERM')
    const ended = [runs, ...launcher.live.map((child) => child.exit), ...terminals.list().map((one) => one.close(closeMs / 2))]
    await Promise.race([Promise.all(ended), delay(closeMs)])
    for (const child of launcher.live) child.signal('SIGKILL')
  }
  return { close }
}
