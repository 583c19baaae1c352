import { Failure } from '@atoll/protocol'
import type { Guest, OpenGuest } from './guest.ts'
import type { SandboxRecord } from './sandbox.ts'

/** One warm guest channel per running sandbox. */
export class Guests {
  readonly #openGuest: OpenGuest
  readonly #open = new Map<string, { readonly guest: Guest; readonly socketPath: string }>()

  constructor(openGuest: OpenGuest) {
    this.#openGuest = openGuest
  }

  open(id: string, socketPath: string): Guest {
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
    return this.open(sandbox.id, sandbox.socketPath)
  }

  close(id: string): void {
    this.#open.get(id)?.guest.close()
    this.#open.delete(id)
  }

  closeAll(): void {
    for (const id of [...this.#open.keys()]) this.close(id)
  }
}
