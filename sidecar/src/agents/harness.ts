// What a harness must offer, and what it is given. One file for each harness stands in harnesses/.
import type { Readable, Writable } from 'node:stream'
import type { AgentError, AgentEvent, Exit, McpServer, PermissionDecision, RunOutcome, ToolKind } from '@atoll/protocol'

/**
 * Of a call's beginning: the model is still at its arguments, and its silence counts. That ends by an update with the input or some
 * output, or one that says `false`; so does the call with its answer. It is not told on.
 */
interface Drafting {
  readonly isDraft?: boolean
}

/** An event as a harness tells it; the run adds what is on every event. */
export type HarnessEvent = AgentEvent extends infer One
  ? One extends { seq: number; type: 'run.started' | 'run.finished' | 'permission.requested' | 'permission.resolved' }
    ? never
    : One extends { seq: number; type: 'tool.started' | 'tool.updated' }
      ? Omit<One, 'seq' | 'at'> & Drafting
      : One extends { seq: number }
        ? Omit<One, 'seq' | 'at'>
        : never
  : never

export interface Turn {
  readonly prompt: string
  /** What the harness itself calls the conversation so far; undefined in its first turn. */
  readonly nativeSessionId: string | undefined
  /** Empty: the harness's own choice. */
  readonly model: string
  readonly systemPrompt: string
  /** 0: no limit. */
  readonly maxTurns: number
  readonly cwd: string
  readonly permissionMode: 'auto' | 'ask'
  readonly mcpServers: Readonly<Record<string, McpServer>>
  readonly skills: Readonly<Record<string, { readonly description: string; readonly content: string }>>
  readonly subagents: Readonly<Record<string, { readonly description: string; readonly prompt: string }>>
}

export interface PermissionRequest {
  readonly toolId?: string | undefined
  readonly name: string
  readonly kind: ToolKind
  readonly input?: unknown
  readonly options?: readonly PermissionDecision[]
}

/** How a turn ended, as the harness tells it. */
export interface TurnEnd {
  readonly outcome: RunOutcome
  readonly text?: string | undefined
  readonly stopReason?: string | undefined
  readonly error?: AgentError | undefined
}

/** A program of the harness that runs as the sandbox user. */
export interface HarnessProcess {
  readonly pid: number
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  readonly exit: Promise<Exit>
  /** Reaches the whole group. */
  signal(signal: NodeJS.Signals): void
}

export interface Spawning {
  readonly argv: readonly string[]
  /** Beside the run's own environment. A value of undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
}

/** What a turn has to work with. Everything it starts or makes is gone when the turn is over, but what it writes to the home. */
export interface TurnContext {
  /** Cancelled, or out of time: interrupt politely and end soon. After a few seconds every process of the run is killed. */
  readonly signal: AbortSignal
  readonly home: string
  /** A directory of this run alone, for the user: configuration files and TMPDIR. Removed after the turn. */
  readonly scratch: string
  /** Environment of the run: the sandbox's, the credentials that this harness declares, the run's own. */
  readonly env: Readonly<Record<string, string>>
  /**
   * What holds nothing is not told on, but says what the model is at: a `reasoning.delta` without text that it is at work, which may take
   * long; a `text.delta`, or a `tool.updated` with an `input_delta`, without text that it is in the middle of something which goes on soon.
   */
  emit(event: HarnessEvent): void
  /** Asks the caller, and waits. `reject` when the run is cancelled meanwhile. */
  ask(request: PermissionRequest): Promise<PermissionDecision>
  /** @throws Failure when the program is not there or cannot be started */
  spawn(spawning: Spawning): Promise<HarnessProcess>
  /** Writes a file as the sandbox user, mode 0600, with its directories. */
  writeFile(path: string, content: string): Promise<void>
  /** Undefined when there is none. As the sandbox user. */
  readFile(path: string): Promise<string | undefined>
}

export interface Harness {
  /** As in `/api/capabilities`. */
  readonly id: string
  readonly label: string
  /** The program that must be on PATH; undefined: none. */
  readonly command: string | undefined
  readonly mcp: boolean
  readonly skills: boolean
  readonly subagents: boolean
  /** Variables that may carry its credentials or tell where its models are; it gets no others of the operator's. */
  readonly credentialEnv: readonly string[]
  /** Whether it can reach a model. `hasFile` tells whether a file of the home is there. */
  hasCredentials(env: Readonly<Record<string, string>>, hasFile: (pathInHome: string) => boolean): boolean
  /** Runs one turn. Errors of the model or the program are an end with `failed`, not an exception. */
  turn(turn: Turn, context: TurnContext): Promise<TurnEnd>
}
