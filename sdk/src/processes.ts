import { type Process as ProcessInfo, routes } from '@atoll/protocol'
import type { Connection } from './connection.ts'
import { Process } from './process.ts'

/** A text runs in the sandbox's shell; a list is a program and its arguments, which no shell sees. */
export type Command = string | readonly string[]

export interface StartOptions {
  /** Working directory; the workspace when not given. A relative path starts there. */
  readonly cwd?: string | undefined
  /** More environment variables. */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** `open`: input is written with `write` until `closeStdin`. `closed` when not given. */
  readonly stdin?: 'open' | 'closed' | undefined
  /** Milliseconds after which it is killed with all that it started; no limit when not given. */
  readonly timeoutMs?: number | undefined
}

export const commandOf = (command: Command): { command: string } | { argv: string[] } =>
  typeof command === 'string' ? { command } : { argv: [...command] }

/** Commands that run in the background of a sandbox. */
export class Processes {
  readonly #connection: Connection
  readonly #sandboxId: string

  constructor(connection: Connection, sandboxId: string) {
    this.#connection = connection
    this.#sandboxId = sandboxId
  }

  /** Starts a command and returns at once. A program that does not exist is an exit of 127. @throws Failure `process.too_many` */
  async start(command: Command, { cwd, env, stdin, timeoutMs }: StartOptions = {}): Promise<Process> {
    const info = await this.#connection.call(routes.processes.start, {
      params: { id: this.#sandboxId },
      body: {
        ...commandOf(command),
        ...(cwd !== undefined && { cwd }),
        ...(env && { env_json: { ...env } }),
        ...(stdin && { stdin }),
        ...(timeoutMs !== undefined && { timeout_ms: timeoutMs }),
      },
    })
    return this.#process(info)
  }

  /** Running processes, and those that ended of late. */
  async list(): Promise<Process[]> {
    const { processes } = await this.#connection.call(routes.processes.list, { params: { id: this.#sandboxId } })
    return processes.map((info) => this.#process(info))
  }

  /** @throws Failure `process.not_found` */
  async get(id: string): Promise<Process> {
    return this.#process(await this.#connection.call(routes.processes.get, { params: { id: this.#sandboxId, pid: id } }))
  }

  #process(info: ProcessInfo): Process {
    return new Process(this.#connection, this.#sandboxId, info)
  }
}
