import path from 'node:path'
import { Failure } from '@atoll/protocol'
import type { Gateway, GatewayCaller } from './gateway.ts'
import type { Guest, OpenGuest } from './guest.ts'
import type { SandboxRecord } from './sandbox.ts'

/** One warm guest channel per running sandbox: the guest at its other end, and the gateway at this one. */
export class Guests {
  readonly #openGuest: OpenGuest
  readonly #gateway: Gateway
  readonly #open = new Map<string, { readonly guest: Guest; readonly socketPath: string }>()

  constructor(openGuest: OpenGuest, gateway: Gateway) {
    this.#openGuest = openGuest
    this.#gateway = gateway
  }

  /** Both ways of the channel, as a sandbox needs them that has just been started or found. */
  async open(sandbox: GatewayCaller, socketPath: string): Promise<Guest> {
    await this.#gateway.open(sandbox, path.dirname(socketPath))
    return this.#guest(sandbox.id, socketPath)
  }

  #guest(id: string, socketPath: string): Guest {
    const known = this.#open.get(id)
    if (known?.socketPath === socketPath) return known.guest
    known?.guest.close()
    const guest = this.#openGuest(socketPath)
    this.#open.set(id, { guest, socketPath })
    return guest
  }

  /** @throws Failure `sandbox.not_running` */
  of(sandbox: SandboxRecord): Guest {
    if (sandbox.state !== 'running' || !sandbox.socketPath) {
      const advice = sandbox.state === 'stopped' ? 'resume it first' : 'it cannot be used'
      throw new Failure('sandbox.not_running', `Sandbox ${sandbox.id} is ${sandbox.state}; ${advice}`)
    }
    return this.#guest(sandbox.id, sandbox.socketPath)
  }

  close(id: string): void {
    this.#gateway.close(id)
    this.#open.get(id)?.guest.close()
    this.#open.delete(id)
  }

  closeAll(): void {
    for (const id of [...this.#open.keys()]) this.close(id)
  }
}
