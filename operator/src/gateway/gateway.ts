// The operator's door for everything that leaves a sandbox: one socket for each, behind it the model providers and the rest of the world.
import type { IncomingMessage, ServerResponse } from 'node:http'
import path from 'node:path'
import type { Duplex } from 'node:stream'
import type { Failure, FailureCode } from '@atoll/protocol'
import { type GatewayEnvironment, sidecarPaths } from '@atoll/protocol/sidecar'
import type { Logger } from 'pino'
import type { GatewayCaller, Gateway as SandboxGateway } from '../sandboxes/gateway.ts'
import type { Caller } from './caller.ts'
import type { DeniedEvents } from './denied-events.ts'
import { type Behind, type Door, openDoor } from './door.ts'
import { refusalOf, refuse, refuseSocket } from './refusal.ts'

/** What answers a kind of requests. A method that rejects has answered nothing yet, or has cut its answer off. */
export interface Handler {
  request(caller: Caller, request: IncomingMessage, response: ServerResponse): Promise<void>
  upgrade(caller: Caller, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>
}

/** The way to everything that is not a model provider. */
export interface Egress extends Handler {
  connect(caller: Caller, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>
  /** Ends the connections of a sandbox. */
  closeSandbox(id: string): void
}

export interface GatewayParts {
  /** Requests for a path, as `/openai/responses`. */
  readonly models: Handler
  readonly denied: DeniedEvents
  /** Requests for an address, and tunnels. */
  readonly egress: Egress
  readonly environment: (caller: Caller) => Promise<GatewayEnvironment>
  readonly log: Logger
}

/** What a service does not allow its sandboxes of models; the rest is a mistake of theirs, or a provider that is down. */
const denials = new Set<FailureCode>([
  ...(['provider.key_missing', 'provider.login_expired', 'provider.path_refused', 'provider.model_refused'] as const),
  ...(['budget.spent', 'budget.unpriced', 'service.not_found'] as const),
])

export class Gateway implements SandboxGateway {
  readonly #parts: GatewayParts
  readonly #doors = new Map<string, Promise<Door | undefined>>()

  constructor(parts: GatewayParts) {
    this.#parts = parts
  }

  async open({ id, owner, serviceId }: GatewayCaller, directory: string): Promise<void> {
    const socketPath = path.join(directory, sidecarPaths.gatewaySocketName)
    // A door that was open while the sandbox was paused has its connections still.
    if ((await this.#doors.get(id))?.socketPath === socketPath) return
    this.close(id)
    const door = this.#open({ sandboxId: id, owner, serviceId }, socketPath)
    this.#doors.set(id, door)
    await door
  }

  async #open(caller: Caller, socketPath: string): Promise<Door | undefined> {
    try {
      return await openDoor(socketPath, this.#behind(caller))
    } catch (error) {
      this.#parts.log.error({ sandboxId: caller.sandboxId, err: error }, 'the gateway of a sandbox could not be opened')
      return undefined
    }
  }

  close(id: string): void {
    const door = this.#doors.get(id)
    this.#doors.delete(id)
    void door?.then((opened) => opened?.close())
    this.#parts.egress.closeSandbox(id)
  }

  closeAll(): void {
    for (const id of [...this.#doors.keys()]) this.close(id)
  }

  environment({ id, owner, serviceId }: GatewayCaller): Promise<GatewayEnvironment> {
    return this.#parts.environment({ sandboxId: id, owner, serviceId })
  }

  #behind(caller: Caller): Behind {
    const { models, egress } = this.#parts
    const handlerOf = ({ url = '' }: IncomingMessage): Handler => (url.startsWith('/') ? models : egress)
    return {
      request: (request, response) => {
        request.on('error', () => response.destroy())
        handlerOf(request)
          .request(caller, request, response)
          .catch((thrown: unknown) => refuse(response, this.#told(caller, thrown)))
      },
      upgrade: (request, socket, head) => {
        handlerOf(request)
          .upgrade(caller, request, socket, head)
          .catch((thrown: unknown) => refuseSocket(socket, this.#told(caller, thrown)))
      },
      connect: (request, socket, head) => {
        egress.connect(caller, request, socket, head).catch((thrown: unknown) => refuseSocket(socket, this.#told(caller, thrown)))
      },
    }
  }

  #told(caller: Caller, thrown: unknown): Failure {
    const failure = refusalOf(thrown)
    if (failure.code === 'internal')
      this.#parts.log.error({ sandboxId: caller.sandboxId, err: thrown }, 'a request through the gateway failed')
    if (denials.has(failure.code)) this.#parts.denied.tell(caller.sandboxId, 'model.denied', { code: failure.code })
    return failure
  }
}
