import type { Duplex, Readable } from 'node:stream'
import type { SidecarEnvironment, SidecarHealth } from '@atoll/protocol/sidecar'

export interface GuestRequest {
  readonly method: string
  /** Path and query on the sidecar, such as `/files?path=a`. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  /** An object is sent as JSON, a stream as it comes. */
  readonly body?: object | Readable
  readonly signal?: AbortSignal
}

export interface GuestAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: Readable
}

export interface Upgraded {
  readonly socket: Duplex
  readonly headers: Readonly<Record<string, string | undefined>>
}

/** The operator's hands inside one sandbox: the guest channel to its sidecar. */
export interface Guest {
  /**
   * An answer of the sidecar, streamed.
   * @throws Failure `sandbox.unreachable` when the sidecar does not answer at all, and its own code when it refuses
   */
  send(request: GuestRequest): Promise<GuestAnswer>
  /** A JSON answer. @throws as `send` */
  call<Answer>(request: GuestRequest): Promise<Answer>
  /** A raw connection to a port inside the sandbox. @throws Failure `port.closed` */
  connect(port: number, signal?: AbortSignal): Promise<Duplex>
  /** An upgraded connection on a sidecar path, such as a terminal's WebSocket. @throws as `send` */
  upgrade(path: string, headers: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<Upgraded>
  /** Waits until the sidecar answers. @throws Failure `sandbox.start_failed` when the deadline passes */
  ready(deadlineMs: number, signal: AbortSignal): Promise<SidecarHealth>
  configure(environment: SidecarEnvironment): Promise<void>
  /** Drops the warm connections. */
  close(): void
}

/** Opens guests by socket path. */
export type OpenGuest = (socketPath: string) => Guest
