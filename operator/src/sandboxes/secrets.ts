// A sandbox's environment and secrets: sealed in the store, pushed into the running sandbox, never in an image, label or log.
import { Environment, Failure } from '@atoll/protocol'
import type { SidecarEnvironment } from '@atoll/protocol/sidecar'
import { faultPoint } from './faults.ts'
import type { Gateway } from './gateway.ts'
import type { Guests } from './guests.ts'
import type { Locks } from './locks.ts'
import type { SandboxRecord } from './sandbox.ts'
import type { Store } from './store.ts'

/** Authenticated encryption; `context` says what a text is and of what, and must be the same when it is opened. */
export interface Seal {
  seal(text: string, context: string): string
  open(sealed: string, context: string): string
}

/** What the sealed texts of a sandbox are sealed for. */
export const environmentContext = (id: string): string => `sandbox/${id}/env`
export const secretsContext = (id: string): string => `sandbox/${id}/secrets`

type Env = Readonly<Record<string, string>>

export interface SecretsParts {
  readonly store: Store
  readonly seal: Seal
  readonly guests: Guests
  readonly locks: Locks
  /** What agents of an owner's sandboxes get beside, and no other process does. */
  readonly agentEnvironment: (owner: string) => Promise<Env>
  readonly gateway: Pick<Gateway, 'environment'>
}

export class Secrets {
  readonly #store: Store
  readonly #seal: Seal
  readonly #guests: Guests
  readonly #locks: Locks
  readonly #agentEnvironment: SecretsParts['agentEnvironment']
  readonly #gateway: SecretsParts['gateway']

  constructor(parts: SecretsParts) {
    this.#store = parts.store
    this.#seal = parts.seal
    this.#guests = parts.guests
    this.#locks = parts.locks
    this.#agentEnvironment = parts.agentEnvironment
    this.#gateway = parts.gateway
  }

  /** The sealed form of a sandbox's own environment; undefined when it is empty. */
  seal(id: string, env: Env): string | undefined {
    return this.#sealed(env, environmentContext(id))
  }

  /** What the sandbox's processes get. */
  async environment(id: string): Promise<SidecarEnvironment> {
    const [sealed, sandbox] = await Promise.all([this.#store.sealed(id), this.#store.get(id)])
    return {
      env: this.#opened(sealed.env, environmentContext(id)),
      secrets: this.#opened(sealed.secrets, secretsContext(id)),
      agents: sandbox ? await this.#agentEnvironment(sandbox.owner) : {},
      ...(sandbox && { gateway: await this.#gateway.environment(sandbox) }),
    }
  }

  /** Replaces the secrets and gives them to the running sandbox at once; a stopped one gets them when it starts. */
  async replace(sandbox: SandboxRecord, secrets: Env): Promise<void> {
    await this.#locks.run(sandbox.id, async () => {
      const current = await this.#store.get(sandbox.id)
      if (!current || current.state === 'ended' || current.state === 'deleting') {
        throw new Failure('sandbox.ended', `Sandbox ${sandbox.id} has ended. Create a new one.`)
      }
      const names = Object.keys(secrets)
      const type = names.length > 0 ? 'sandbox.secrets_set' : 'sandbox.secrets_wiped'
      const sealed = this.#sealed(secrets, secretsContext(sandbox.id))
      await this.#store.setSecrets(sandbox.id, sealed, { type, sandboxId: sandbox.id, data: { count: names.length } })
      faultPoint('secrets.recorded', sandbox.id)
      if (current.state === 'running') await this.#guests.of(current).configure(await this.environment(sandbox.id))
      faultPoint('secrets.delivered', sandbox.id)
    })
  }

  /** Gives every running sandbox of a service what it should have by now. One that does not take it gets it when the operator starts. */
  async refresh(serviceId: number): Promise<void> {
    const sandboxes = await this.#store.list({ serviceId, states: ['running'] })
    await Promise.allSettled(
      sandboxes.map(({ id }) =>
        this.#locks.run(id, async () => {
          const current = await this.#store.get(id)
          if (current?.state === 'running') await this.#guests.of(current).configure(await this.environment(id))
        }),
      ),
    )
  }

  #sealed(env: Env, context: string): string | undefined {
    return Object.keys(env).length === 0 ? undefined : this.#seal.seal(JSON.stringify(env), context)
  }

  #opened(sealed: string | undefined, context: string): Env {
    return sealed === undefined ? {} : Environment.parse(JSON.parse(this.#seal.open(sealed, context)))
  }
}
