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

/** The operator's hands inside one sandbox: the guest channel to its sidecar. */
export interface Guest {
  /** Any answer of the sidecar, streamed. @throws Failure `sandbox.unreachable` when the sidecar does not answer at all */
  send(request: GuestRequest): Promise<GuestAnswer>
  /** A JSON answer. @throws Failure with the sidecar's own code when it refuses */
  call<Answer>(request: GuestRequest): Promise<Answer>
  /** A raw connection to a port inside the sandbox. @throws Failure `port.closed` */
  connect(port: number, signal?: AbortSignal): Promise<Duplex>
  /** Opens an upgraded connection on a sidecar path, such as a terminal's WebSocket, and passes `socket`'s bytes both ways. */
  upgrade(path: string, headers: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<Duplex>
  /** Waits until the sidecar answers. @throws Failure `sandbox.start_failed` when the deadline passes */
  ready(deadlineMs: number, signal: AbortSignal): Promise<SidecarHealth>
  configure(environment: SidecarEnvironment): Promise<void>
  /** Drops the warm connections. */
  close(): void
}

/** Opens guests by socket path. */
export type OpenGuest = (socketPath: string) => Guest
