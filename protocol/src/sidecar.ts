/**
 * What the operator asks of the sidecar inside a sandbox, over the guest channel only (HTTP/1.1 on a unix socket).
 * Types without schemas: the operator has parsed what its callers sent, and nobody else can reach the socket.
 *
 * GET    /health                              SidecarHealth
 * PUT    /environment                         SidecarEnvironment -> {}          for processes that start later
 * POST   /exec                                RunRequest -> ExecResult
 * POST   /processes                           RunRequest -> Process
 * GET    /processes                           { processes: Process[] }
 * GET    /processes/{pid}                     Process
 * GET    /processes/{pid}/events?cursor=N     event stream of ProcessEvent, `id:` is seq; ends after `exit`
 * POST   /processes/{pid}/stdin?close=true    raw bytes -> { bytes }
 * POST   /processes/{pid}/signal              { signal } -> { success: true }
 * DELETE /processes/{pid}                     { deleted: true }
 * GET    /terminals                           { sessions: Terminal[] }
 * POST   /terminals                           OpenTerminal -> Terminal
 * GET    /terminals/{sid}/stream?cursor=N     event stream of TerminalEvent
 * GET    /terminals/{sid}/socket?cursor=N     WebSocket
 * PATCH  /terminals/{sid}                     { cols, rows } -> { success: true }
 * POST   /terminals/{sid}/input               { data } -> { success: true }
 * DELETE /terminals/{sid}                     { deleted: true, session_id }
 * GET    /files?path=                         { path, entries: FileEntry[] }
 * GET    /files/stat?path=                    FileEntry
 * GET    /files/content?path=                 bytes; Range is honoured
 * PUT    /files/content?path=&mode=           bytes -> FileEntry
 * POST   /files/mkdir  /files/move            as in the native API
 * DELETE /files?path=&recursive=              { deleted }
 * GET    /files/watch?path=&recursive=        event stream of WatchEvent
 * GET    /ports                               { listening: number[] }
 * GET    /ports/{port}/connect                Upgrade: tcp -> 101, then the raw bytes of a connection to 127.0.0.1:{port}
 *
 * GET    /agents                              { harnesses: SandboxHarness[] }
 * POST   /agents/runs                         StartRun -> AgentRun
 * GET    /agents/runs                         { runs: AgentRun[] }
 * GET    /agents/runs/{rid}                   AgentRun
 * GET    /agents/runs/{rid}/events?cursor=N   event stream of AgentEvent, `id:` is seq; ends after `run.finished`
 * POST   /agents/runs/{rid}/cancel            AgentRun, when no process of the run is left
 * POST   /agents/runs/{rid}/permissions/{request_id}   { decision } -> { success: true }
 * GET    /agents/sessions                     { sessions: AgentSession[] }
 * GET    /agents/sessions/{sid}               AgentSession
 * GET    /agents/sessions/{sid}/transcript    a JSON document a line: each prompt, and the events that followed
 * DELETE /agents/sessions/{sid}               { deleted: true, session_id }
 *
 * A failing route answers the status of its code and `{ error, code }`, with the codes of failures.ts.
 */

/** Number of the sidecar's protocol; raised when a route changes. The operator speaks the lower one of both. */
export const sidecarGeneration = 1

/** The sandbox user. */
export const sandboxUser = { uid: 1000, gid: 1000, name: 'agent', home: '/home/agent', workspace: '/home/agent/workspace' } as const

/** Where things stand inside a sandbox. */
export const sidecarPaths = {
  /** Read-only: `node`, `sidecar.mjs`, `pty.node`. */
  program: '/opt/atoll',
  /** Guest channel directory, only for the sidecar: it listens on `sidecar.sock` in it. */
  channel: '/run/atoll',
  socketName: 'sidecar.sock',
  /** The sidecar's own disk (process and terminal logs), only for the sidecar. */
  state: '/var/lib/atoll',
  /** What an image says of its harnesses, each of which was run when it was built. */
  harnessManifest: '/etc/atoll/harnesses.json',
  /** Harnesses with their programs in `bin` and their names in `claims.json`: in an image, or lent by the operator, read-only. */
  harnesses: '/opt/harnesses',
  /** What of the state outlives a stop of the sandbox: conversations with agents. */
  lastingState: 'agents',
  /** A memory file system for the user's secrets, one file each. */
  secrets: '/run/secrets',
  /** Certificates for programs to trust, in memory: the sidecar makes it before anybody else could. */
  trust: '/dev/shm/atoll',
  /** In the channel directory too: here the operator listens, for whatever leaves the sandbox. */
  gatewaySocketName: 'gateway.sock',
} as const

/** Port of the sandbox's own loopback that the sidecar joins to the gateway's socket, byte for byte. */
export const gatewayPort = 7077

/**
 * Stands for a provider's key inside a sandbox; the gateway puts the real one in its place. An agent's run finds its own id behind it
 * (`atoll-placeholder.<run id>`), by which usage is told apart.
 */
export const placeholderKey = 'atoll-placeholder'

export interface SidecarHealth {
  readonly status: 'ok'
  readonly generation: number
  readonly version: string
  readonly uptime_ms: number
  readonly processes: number
  readonly terminals: number
  /** Runs of agents that are under way or wait; older sidecars do not say. */
  readonly runs?: number
  readonly features: readonly string[]
}

/** Replaces what the sandbox's processes get: `env` in the environment, `secrets` there too and as files. */
export interface SidecarEnvironment {
  readonly env: Readonly<Record<string, string>>
  readonly secrets: Readonly<Record<string, string>>
  /** Credentials of the operator for agents. A harness gets those that it declares; other processes get none. */
  readonly agents?: Readonly<Record<string, string>> | undefined
  /** What the gateway offers; older operators do not say. */
  readonly gateway?: GatewayEnvironment | undefined
}

export interface GatewayEnvironment {
  /** The certificate of the authority by which the gateway looks into TLS; programs must trust it beside those of the system. */
  readonly caPem?: string | undefined
  /**
   * Groups of variables that belong together, as a placeholder for a key and the address that takes it. Every process gets each group, but
   * none of a group of which it has a variable otherwise: its key would go to the gateway.
   */
  readonly variables: readonly Readonly<Record<string, string>>[]
}

export interface RunRequest {
  readonly command?: string | undefined
  readonly argv?: readonly string[] | undefined
  readonly cwd?: string | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  /** exec: text for standard input. processes: whether it stays open. */
  readonly stdin?: string | undefined
  readonly timeout_ms?: number | undefined
}
