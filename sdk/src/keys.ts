import { type ApiKey, type keyScopes, type RouteOutput, routes } from '@atoll/protocol'
import type { Connection } from './connection.ts'

export interface CreateKeyOptions {
  readonly name?: string | undefined
  /** `owner`: all of one's own sandboxes; `read`: only looking at them; `admin`: everybody's. `owner` when not given. */
  readonly scope?: (typeof keyScopes)[number] | undefined
  /** Whose key it is; only an admin may make one for somebody else. */
  readonly owner?: string | undefined
  /** Seconds until it expires; never when not given. */
  readonly ttlSeconds?: number | undefined
}

/** API keys of the caller. */
export class Keys {
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** Makes a key. `key` is in this answer and nowhere else. @throws Failure `auth.forbidden` */
  create({ name, scope, owner, ttlSeconds }: CreateKeyOptions = {}): Promise<ApiKey & { key: string }> {
    return this.#connection.call(routes.auth.createKey, {
      body: {
        ...(name !== undefined && { name }),
        ...(scope && { scope }),
        ...(owner !== undefined && { owner }),
        ...(ttlSeconds !== undefined && { ttl_seconds: ttlSeconds }),
      },
    })
  }

  async list(): Promise<ApiKey[]> {
    return (await this.#connection.call(routes.auth.listKeys, {})).keys
  }

  /** Revokes a key at once, by its id. @throws Failure `key.not_found` */
  async revoke(id: string): Promise<void> {
    await this.#connection.call(routes.auth.revokeKey, { params: { key_id: id } })
  }

  /**
   * Makes a new key that seals the operator's secrets, and seals all of them again. Sessions and preview links end; API keys stay.
   * @throws Failure `auth.forbidden` for who is no admin
   */
  rotateSealingKey(): Promise<RouteOutput<typeof routes.auth.rotateSealingKey>> {
    return this.#connection.call(routes.auth.rotateSealingKey, {})
  }
}
