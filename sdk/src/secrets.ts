import { routes } from '@atoll/protocol'
import type { Connection } from './connection.ts'

/** A user's own secrets in a sandbox: environment of later processes, and files under /run/secrets. Never stored in its image. */
export class Secrets {
  readonly #connection: Connection
  readonly #params: { readonly id: string }

  constructor(connection: Connection, sandboxId: string) {
    this.#connection = connection
    this.#params = { id: sandboxId }
  }

  /** All of them. @throws Failure `auth.forbidden` for a key that may only read */
  async get(): Promise<Record<string, string>> {
    return (await this.#connection.call(routes.secrets.get, { params: this.#params })).env_json
  }

  /** Replaces all of them; processes that run already keep what they had. @throws Failure `secret.invalid` */
  async set(secrets: Readonly<Record<string, string>>): Promise<void> {
    await this.#connection.call(routes.secrets.set, { params: this.#params, body: { env_json: { ...secrets } } }, { isRepeatable: true })
  }

  /** Removes all of them. */
  async wipe(): Promise<void> {
    await this.#connection.call(routes.secrets.wipe, { params: this.#params })
  }
}
