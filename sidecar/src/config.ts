// The sidecar's settings, read from its environment once. Inside a sandbox nothing is set and the wire's own constants hold.
import path from 'node:path'
import { gatewayPort, sandboxUser, sidecarPaths } from '@atoll/protocol/sidecar'

export interface Limits {
  /** Processes alive at once that were started through the API, commands of /exec included. */
  readonly liveProcesses: number
  readonly keptProcesses: number
  readonly keptProcessMs: number
  readonly execOutputBytes: number
  /** Output kept of one process, and of all together. */
  readonly processLogBytes: number
  readonly allLogsBytes: number
  /** A reader that takes nothing for so long is disconnected, because it may be holding a process back. */
  readonly readerStallMs: number
  readonly heartbeatMs: number
  readonly terminals: number
  readonly terminalIdleMs: number
  readonly scrollbackBytes: number
  /** Between SIGTERM and SIGKILL. */
  readonly killGraceMs: number
  /** Runs of agents at once, and those that may wait in one conversation. */
  readonly agentRuns: number
  readonly agentQueue: number
  /** Events kept of one run, and what all conversations may take on disk. */
  readonly runLogBytes: number
  readonly allRunsBytes: number
  /** A run whose model says nothing for so long has failed; one that thinks has longer. A run may set its own in its environment. */
  readonly modelSilenceMs: number
}

export interface User {
  readonly uid: number
  readonly gid: number
  readonly name: string
  readonly home: string
}

export interface Config {
  readonly channel: string
  readonly socketPath: string
  /** Where the operator listens for what leaves the sandbox. */
  readonly gatewaySocketPath: string
  /** The port of loopback that leads there; 0: any free one. */
  readonly gatewayPort: number
  readonly state: string
  readonly workspace: string
  readonly secrets: string
  /** What an image says of the harnesses in it, and where they stand beside those on PATH. */
  readonly harnessManifest: string
  readonly harnessPrograms: string
  /** Root's home in the sandbox, where images keep credentials. */
  readonly rootHome: string
  readonly user: User
  readonly limits: Limits
}

const mebibyte = 1024 * 1024

type Variables = Readonly<Record<string, string | undefined>>

export function readConfig(variables: Variables = process.env): Config {
  const number = (name: string, otherwise: number): number => {
    const text = variables[name]
    if (text === undefined) return otherwise
    if (!/^\d{1,15}$/.test(text)) throw new Error(`${name} must be a whole number, not ${JSON.stringify(text)}`)
    return Number(text)
  }
  const folder = (name: string, otherwise: string): string => path.resolve(variables[name] ?? otherwise)
  const channel = folder('ATOLL_CHANNEL', sidecarPaths.channel)
  const home = folder('ATOLL_HOME', sandboxUser.home)
  return {
    channel,
    socketPath: path.join(channel, sidecarPaths.socketName),
    gatewaySocketPath: path.join(channel, sidecarPaths.gatewaySocketName),
    gatewayPort: number('ATOLL_GATEWAY_PORT', gatewayPort),
    state: folder('ATOLL_STATE', sidecarPaths.state),
    workspace: folder('ATOLL_WORKSPACE', sandboxUser.workspace),
    secrets: folder('ATOLL_SECRETS', sidecarPaths.secrets),
    harnessManifest: folder('ATOLL_HARNESS_MANIFEST', sidecarPaths.harnessManifest),
    harnessPrograms: folder('ATOLL_HARNESS_PROGRAMS', path.join(sidecarPaths.harnesses, 'bin')),
    rootHome: folder('ATOLL_ROOT_HOME', '/root'),
    user: { uid: sandboxUser.uid, gid: sandboxUser.gid, name: sandboxUser.name, home },
    limits: {
      liveProcesses: number('ATOLL_LIVE_PROCESSES', 256),
      keptProcesses: number('ATOLL_KEPT_PROCESSES', 100),
      keptProcessMs: number('ATOLL_KEPT_PROCESS_MS', 60 * 60_000),
      execOutputBytes: 4 * mebibyte,
      processLogBytes: number('ATOLL_PROCESS_LOG_BYTES', 64 * mebibyte),
      allLogsBytes: number('ATOLL_ALL_LOGS_BYTES', 512 * mebibyte),
      readerStallMs: number('ATOLL_READER_STALL_MS', 60_000),
      heartbeatMs: number('ATOLL_HEARTBEAT_MS', 10_000),
      terminals: number('ATOLL_TERMINALS', 32),
      terminalIdleMs: number('ATOLL_TERMINAL_IDLE_MS', 30 * 60_000),
      scrollbackBytes: number('ATOLL_SCROLLBACK_BYTES', mebibyte),
      killGraceMs: 2000,
      agentRuns: number('ATOLL_AGENT_RUNS', 8),
      agentQueue: number('ATOLL_AGENT_QUEUE', 200),
      runLogBytes: number('ATOLL_RUN_LOG_BYTES', 32 * mebibyte),
      allRunsBytes: number('ATOLL_ALL_RUNS_BYTES', 512 * mebibyte),
      modelSilenceMs: number('ATOLL_MODEL_SILENCE_MS', 15_000),
    },
  }
}
