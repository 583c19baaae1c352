// A process of a sandbox: it goes on whether or not anybody reads it, and its output can be read from any point.
import { type Exit, exitNumber, Failure, type ProcessEvent, type Process as ProcessInfo, routes, type signalNames } from '@atoll/protocol'
import type { Connection } from './connection.ts'
import { ConnectionFailure } from './connection-failure.ts'
import { follow } from './follow.ts'

export type SignalName = (typeof signalNames)[number]

/** How a process ended. `exit` is `lost` when its end could not be learned; then `exitCode` is 255, never 0. */
export interface ProcessEnd {
  /** 0…255; 128 + signal when killed by one; 127 when the program does not exist; 255 when lost. */
  readonly exitCode: number
  readonly exit: Exit
  /** True when it was killed because its time was over. */
  readonly timedOut: boolean
  readonly durationMs: number
}

/** A piece of output, in order over both streams. `gap`: that many events were dropped from the log before this reader got there. */
export type ProcessOutput =
  | { readonly stream: 'stdout' | 'stderr'; readonly seq: number; readonly text: string; readonly bytes: Uint8Array }
  | { readonly stream: 'gap'; readonly events: number }

export interface FollowProcessOptions {
  /** Number of the last event that the reader has; without it, reading starts at the oldest that is kept. */
  readonly cursor?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Milliseconds to go on without a connection, for example while the operator restarts; 60 000 when not given. */
  readonly patienceMs?: number | undefined
}

const encoder = new TextEncoder()
const stdinPieceBytes = 262_144

export class Process {
  readonly id: string
  readonly #connection: Connection
  readonly #params: { readonly id: string; readonly pid: string }
  #info: ProcessInfo

  constructor(connection: Connection, sandboxId: string, info: ProcessInfo) {
    this.id = info.id
    this.#connection = connection
    this.#params = { id: sandboxId, pid: info.id }
    this.#info = info
  }

  /** What was last learned of it; `refresh` learns anew. */
  get info(): ProcessInfo {
    return this.#info
  }

  /** Asks for its state. @throws Failure `process.not_found` when it is forgotten */
  async refresh(): Promise<ProcessInfo> {
    this.#info = await this.#connection.call(routes.processes.get, { params: this.#params })
    return this.#info
  }

  /**
   * Everything it does, in order, until its exit. Connections that break are made anew without loss or repetition.
   * @throws Failure when it or its sandbox is gone; ConnectionFailure when the operator stays away
   */
  async *events(options: FollowProcessOptions = {}): AsyncGenerator<ProcessEvent> {
    const route = routes.processes.events
    for await (const { event } of follow(this.#connection, route, { params: this.#params }, { ...options, isLast: isExit })) yield event
  }

  /** Its output until it ends. @throws as `events` */
  async *output(options: FollowProcessOptions = {}): AsyncGenerator<ProcessOutput> {
    for await (const event of this.events(options)) {
      const output = outputOf(event)
      if (output) yield output
    }
  }

  /** Waits for its end without reading its output. What cannot be learned is an `exit` of type `lost`, not an error. */
  async wait(options: Omit<FollowProcessOptions, 'cursor'> = {}): Promise<ProcessEnd> {
    try {
      const info = await this.refresh()
      const end = endOfInfo(info)
      if (end) return end
      for await (const event of this.events({ ...options, cursor: info.last_seq })) if (event.type === 'exit') return endOf(event)
    } catch (error) {
      return lostOr(error)
    }
    return lost('the stream ended without an exit')
  }

  /**
   * Writes to its standard input; resolves when all of it is taken over.
   * @throws Failure `process.ended` when it has ended or its input is closed
   */
  async write(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === 'string' ? encoder.encode(data) : data
    for (let at = 0; at < bytes.length; at += stdinPieceBytes) await this.#send(bytes.subarray(at, at + stdinPieceBytes), 'false')
  }

  /** Ends its standard input. */
  async closeStdin(): Promise<void> {
    await this.#send(new Uint8Array(), 'true')
  }

  /** Sends a signal (SIGTERM when not given) to it and its whole group. @throws Failure `process.ended` */
  async kill(signal: SignalName = 'SIGTERM'): Promise<void> {
    await this.#connection.call(routes.processes.signal, { params: this.#params, body: { signal } })
  }

  /** Kills it with its group, and forgets its output. Safe to repeat. */
  async remove(): Promise<void> {
    try {
      await this.#connection.call(routes.processes.remove, { params: this.#params })
    } catch (error) {
      if (!(error instanceof Failure && error.code === 'process.not_found')) throw error
    }
  }

  async #send(bytes: Uint8Array, close: 'true' | 'false'): Promise<void> {
    const upload = new Uint8Array(bytes)
    await this.#connection.call(routes.processes.stdin, { params: this.#params, query: { close } }, { upload })
  }
}

const isExit = (event: ProcessEvent): boolean => event.type === 'exit'

export function outputOf(event: ProcessEvent): ProcessOutput | undefined {
  if (event.type === 'exit') return undefined
  if (event.type === 'gap') return { stream: 'gap', events: event.to - event.from + 1 }
  const { type: stream, seq, text, base64 } = event
  if (text !== undefined) {
    return {
      stream,
      seq,
      text,
      get bytes() {
        return encoder.encode(text)
      },
    }
  }
  const bytes = fromBase64(base64 ?? '')
  return {
    stream,
    seq,
    bytes,
    get text() {
      return new TextDecoder().decode(bytes)
    },
  }
}

const fromBase64 = (base64: string): Uint8Array => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))

export function endOf(event: { readonly exit: Exit; readonly timed_out: boolean; readonly duration_ms: number }): ProcessEnd {
  return { exitCode: exitNumber(event.exit), exit: event.exit, timedOut: event.timed_out, durationMs: event.duration_ms }
}

function endOfInfo({ exit, timed_out, started_at, ended_at }: ProcessInfo): ProcessEnd | undefined {
  return exit ? endOf({ exit, timed_out, duration_ms: (ended_at ?? started_at) - started_at }) : undefined
}

export const lost = (reason: string): ProcessEnd => endOf({ exit: { type: 'lost', reason }, timed_out: false, duration_ms: 0 })

/** An end that cannot be learned is `lost`; whatever else went wrong is thrown on. */
export function lostOr(error: unknown): ProcessEnd {
  if (error instanceof ConnectionFailure) return lost(error.message)
  const isGone = error instanceof Failure && (error.code === 'process.not_found' || error.code.startsWith('sandbox.'))
  if (isGone) return lost(error.message)
  throw error
}
