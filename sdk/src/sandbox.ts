import { type ExecResult, Failure, routes, type SandboxEvent, type Sandbox as SandboxInfo, type Snapshot } from '@atoll/protocol'
import { Agents } from './agents.ts'
import type { Connection } from './connection.ts'
import { Egress } from './egress.ts'
import { Files } from './files.ts'
import { follow } from './follow.ts'
import { Ports } from './ports.ts'
import { type Command, commandOf, Processes, type StartOptions } from './processes.ts'
import { type RunOptions, type RunResult, run } from './run.ts'
import { creationOf, type SandboxSpec } from './sandbox-spec.ts'
import { Secrets } from './secrets.ts'
import type { SnapshotOptions } from './snapshots.ts'
import { Terminals } from './terminals.ts'

export interface ExecOptions extends Omit<StartOptions, 'stdin' | 'timeoutMs'> {
  /** Text for standard input, at most 1 MiB. */
  readonly stdin?: string
  /** Milliseconds after which the command is killed, at most 240 000; 30 000 when not given. `run` has no such limit. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface EventsOptions {
  /** Number of the last event that the reader has; without it, from the oldest that is kept. */
  readonly cursor?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Milliseconds to go on without a connection; 60 000 when not given. */
  readonly patienceMs?: number | undefined
}

/** HTTP clients give up on an answer that has not begun after five minutes. */
const maxExecMs = 240_000

/** What is not given stays as it is. */
export interface SandboxUpdate {
  readonly name?: string | undefined
  readonly idleTimeoutSeconds?: number | undefined
  /** Counted from its creation. */
  readonly maxLifetimeSeconds?: number | undefined
  /** Adds to its lifetime. */
  readonly extendSeconds?: number | undefined
  readonly idleAction?: 'stop' | 'pause' | undefined
  readonly autoResume?: boolean | undefined
}

/** One isolated machine. `await using` deletes it at the end of the block. */
export class Sandbox implements AsyncDisposable {
  readonly id: string
  readonly agents: Agents
  readonly egress: Egress
  readonly files: Files
  readonly ports: Ports
  readonly processes: Processes
  readonly secrets: Secrets
  readonly terminals: Terminals
  readonly #connection: Connection
  readonly #params: { readonly id: string }
  #info: SandboxInfo

  constructor(connection: Connection, info: SandboxInfo) {
    this.id = info.id
    this.agents = new Agents(connection, info.id)
    this.egress = new Egress(connection, info.id)
    this.files = new Files(connection, info.id)
    this.ports = new Ports(connection, info.id)
    this.processes = new Processes(connection, info.id)
    this.secrets = new Secrets(connection, info.id)
    this.terminals = new Terminals(connection, info.id)
    this.#connection = connection
    this.#params = { id: info.id }
    this.#info = info
  }

  get name(): string {
    return this.#info.name
  }

  /** What was last learned of it; `refresh` learns anew. */
  get info(): SandboxInfo {
    return this.#info
  }

  /** Asks for its state. @throws Failure `sandbox.not_found` */
  async refresh(): Promise<SandboxInfo> {
    this.#info = await this.#connection.call(routes.sandboxes.get, { params: this.#params })
    return this.#info
  }

  /**
   * Runs a command to its end and gives its output; a text runs in a shell, a list does not. Connections that break, and restarts of the
   * operator, lose and repeat nothing. A command that fails is a result; an end that cannot be learned is an `exit` of type `lost`.
   * @throws Failure when it cannot be started; the reason of `signal` when that aborts
   */
  run(command: Command, options: RunOptions = {}): Promise<RunResult> {
    return run((what, how) => this.processes.start(what, how), command, options)
  }

  /**
   * Runs a short command in a single call: the fastest way, for up to 4 MiB of output. `exit_code`, `exit` and `timed_out` tell how it ended.
   * @throws Failure when it cannot be started; ConnectionFailure when the connection breaks, in which case the command is killed
   */
  async exec(command: Command, { cwd, env, stdin, timeoutMs, signal }: ExecOptions = {}): Promise<ExecResult> {
    if (timeoutMs !== undefined && timeoutMs > maxExecMs) {
      throw new Failure('request.invalid', `exec takes at most ${maxExecMs / 1000} s. Use run, which takes as long as you like.`)
    }
    const body = {
      ...commandOf(command),
      ...(cwd !== undefined && { cwd }),
      ...(env && { env_json: { ...env } }),
      ...(stdin !== undefined && { stdin }),
      ...(timeoutMs !== undefined && { timeout_ms: timeoutMs }),
    }
    return this.#connection.call(routes.processes.exec, { params: this.#params, body }, { signal })
  }

  /** Ends every process and keeps the disk. Safe to repeat. @throws Failure `sandbox.ended` */
  async stop(): Promise<void> {
    await this.#connection.call(routes.sandboxes.stop, { params: this.#params }, { isRepeatable: true })
    await this.refresh()
  }

  /** Freezes it with its processes and memory, until it is resumed. Safe to repeat. @throws Failure `runtime.unsupported`, `sandbox.ended` */
  async pause(): Promise<void> {
    await this.#connection.call(routes.sandboxes.pause, { params: this.#params }, { isRepeatable: true })
    await this.refresh()
  }

  /** Changes what is given; times are cut to what the operator allows. @throws Failure `request.invalid`, `sandbox.ended` */
  async update(change: SandboxUpdate): Promise<void> {
    const wanted = {
      name: change.name,
      idle_timeout_seconds: change.idleTimeoutSeconds,
      max_lifetime_seconds: change.maxLifetimeSeconds,
      extend_seconds: change.extendSeconds,
      idle_action: change.idleAction,
      auto_resume: change.autoResume,
    }
    const body = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined))
    await this.#connection.call(routes.sandboxes.update, { params: this.#params, body })
    await this.refresh()
  }

  /** Lets it go on, or starts it again with its disk. Safe to repeat. @throws Failure `capacity.exhausted`, `sandbox.ended` */
  async resume(): Promise<void> {
    await this.#connection.call(routes.sandboxes.resume, { params: this.#params }, { isRepeatable: true })
    await this.refresh()
  }

  /**
   * Keeps its disk as it is, and waits until that is done. A running one stands still for a moment and goes on. Safe over lost connections.
   * @throws Failure `snapshot.too_many`, `capacity.exhausted`, `sandbox.ended`, `runtime.unsupported`
   */
  async snapshot({ name, idempotencyKey = crypto.randomUUID(), signal }: SnapshotOptions = {}): Promise<Snapshot> {
    return this.#connection.call(
      routes.snapshots.create,
      { params: this.#params, body: { ...(name !== undefined && { name }) } },
      { headers: { 'idempotency-key': idempotencyKey }, isRepeatable: true, signal },
    )
  }

  /**
   * Makes sandboxes with the disk that it has now, all or none. What is not given is as its own; environment and secrets are not taken along.
   * @param count at most 16
   * @throws Failure as a creation, and as `snapshot`
   */
  async fork(count = 1, spec: Omit<SandboxSpec, 'snapshot' | 'runtime'> = {}): Promise<Sandbox[]> {
    const { snapshot: _, ...body } = creationOf(spec)
    const made = await this.#connection.call(routes.snapshots.fork, { params: this.#params, body: { ...body, count } })
    return made.sandboxes.map((info) => new Sandbox(this.#connection, info))
  }

  /** Ends it and its disk. Safe to repeat. */
  async delete(): Promise<void> {
    try {
      await this.#connection.call(routes.sandboxes.remove, { params: this.#params })
    } catch (error) {
      if (!(error instanceof Failure && error.code === 'sandbox.not_found')) throw error
    }
  }

  /** What happens to it, from the cursor on and then live, until the reader leaves or the signal aborts. */
  async *events(options: EventsOptions = {}): AsyncGenerator<SandboxEvent> {
    const route = routes.events.sandboxFollow
    for await (const { event } of follow(this.#connection, route, { params: this.#params }, options)) yield event
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.delete()
  }
}
