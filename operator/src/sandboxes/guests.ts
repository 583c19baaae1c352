import path from 'node:path'
import { Failure } from '@atoll/protocol'
import type { Gateway, GatewayCaller } from './gateway.ts'
import type { Guest, OpenGuest } from './guest.ts'
import type { History, Reader } from './history.ts'
import type { SandboxRecord } from './sandbox.ts'

export interface GuestsParts {
  readonly openGuest: OpenGuest
  readonly gateway: Gateway
  readonly history: History
  /** The record of a sandbox when nobody is at work on it. */
  readonly settled: (id: string) => Promise<SandboxRecord | undefined>
}

/** One warm guest channel per running sandbox: the guest at its other end, and the gateway at this one. */
export class Guests {
  readonly #parts: GuestsParts
  readonly #open = new Map<string, { readonly guest: Guest; readonly socketPath: string }>()

  constructor(parts: GuestsParts) {
    this.#parts = parts
  }

  /** Both ways of the channel, as a sandbox needs them that has just been started or found. */
  async open(sandbox: GatewayCaller, socketPath: string): Promise<Guest> {
    this.#parts.history.close(sandbox.id)
    await this.#parts.gateway.open(sandbox, path.dirname(socketPath))
    return this.#guest(sandbox.id, socketPath)
  }

  #guest(id: string, socketPath: string): Guest {
    const known = this.#open.get(id)
    if (known?.socketPath === socketPath) return known.guest
    known?.guest.close()
    const guest = this.#parts.openGuest(socketPath)
    this.#open.set(id, { guest, socketPath })
    return guest
  }

  /** @throws Failure `sandbox.not_running` */
  of(sandbox: SandboxRecord): Guest {
    if (sandbox.state !== 'running' || !sandbox.socketPath) {
      const isResting = sandbox.state === 'stopped' || sandbox.state === 'paused'
      const advice = isResting ? 'resume it first' : 'it cannot be used'
      throw new Failure('sandbox.not_running', `Sandbox ${sandbox.id} is ${sandbox.state}; ${advice}`)
    }
    return this.#guest(sandbox.id, sandbox.socketPath)
  }

  /**
   * Who knows what agents did: the sidecar, or while the sandbox is stopped whatever reads what the sidecar left.
   * @throws as `of`, and as a history
   */
  async readerOf(sandbox: SandboxRecord): Promise<Reader> {
    if (sandbox.state !== 'stopped') return { guest: this.of(sandbox), release: () => undefined }
    const before = await this.#settled(sandbox)
    if (before.version !== sandbox.version) return this.readerOf(before)
    const reader = await this.#parts.history.open(sandbox.id, sandbox.version)
    // What was read while the sandbox was being resumed may be of a sidecar that was at work already.
    const after = await this.#settled(sandbox)
    if (after.version === sandbox.version) return reader
    reader.release()
    return this.readerOf(after)
  }

  async #settled({ id }: SandboxRecord): Promise<SandboxRecord> {
    const record = await this.#parts.settled(id)
    if (!record) throw new Failure('sandbox.not_found', `No sandbox ${id}.`)
    return record
  }

  close(id: string): void {
    this.#parts.gateway.close(id)
    this.#parts.history.close(id)
    this.#open.get(id)?.guest.close()
    this.#open.delete(id)
  }

  closeAll(): void {
    for (const id of [...this.#open.keys()]) this.close(id)
  }
}
