// Session tokens: PASETO v4.local, so that they survive a restart without being stored.
import { randomUUID } from 'node:crypto'
import { Failure, keyScopes } from '@atoll/protocol'
import { ClaimValidationError, LocalProtocol } from 'paseto'
import { z } from 'zod'
import { Secret } from '../secrets/secret.ts'
import { canonicalOwner, type Scope } from './caller.ts'
import { decryptFactory, encryptFactory, type LocalKey, localKey } from './paseto-v4-local.ts'

/** Remembers revoked sessions until they would have ended. Times are unix milliseconds. */
export interface SessionStore {
  isRevoked(id: string): Promise<boolean>
  /** Safe to repeat. */
  revoke(id: string, expiresAt: number): Promise<void>
  /** Forgets what ended before `now`. */
  prune(now: number): Promise<void>
}

export interface Session {
  readonly id: string
  readonly owner: string
  readonly scope: Scope
  /** Unix milliseconds. */
  readonly expiresAt: number
}

export interface SessionOptions {
  /** Asked for each token: when the key changes, every session ends. */
  readonly key: () => Secret<Uint8Array>
  /** Tokens of another operator are refused even when both have the same key. */
  readonly operatorId: string
  readonly store: SessionStore
  readonly now?: () => number
  readonly ttlSeconds?: number
}

/** The wire calls the owner `address`, whatever it is. */
const Claims = z.object({
  address: z.string().min(1),
  scope: z.enum(keyScopes),
  jti: z.string().min(1),
  exp: z.iso.datetime({ offset: true }),
})

const protocol = new LocalProtocol(encryptFactory(), decryptFactory)
/** A clock that was set back a little does not end fresh sessions. */
const clockToleranceSeconds = 5

export class Sessions {
  readonly #key: () => LocalKey
  readonly #assertion: Uint8Array
  readonly #store: SessionStore
  readonly #now: () => number
  readonly #ttlSeconds: number

  constructor(options: SessionOptions) {
    this.#key = () => localKey(options.key())
    this.#assertion = Buffer.from(`atoll/${options.operatorId}`)
    this.#store = options.store
    this.#now = options.now ?? Date.now
    this.#ttlSeconds = options.ttlSeconds ?? 3600
  }

  async issue({ owner, scope }: { readonly owner: string; readonly scope: Scope }): Promise<{ token: Secret; session: Session }> {
    const now = Math.floor(this.#now() / 1000) * 1000
    const session = { id: randomUUID(), owner: canonicalOwner(owner), scope, expiresAt: now + this.#ttlSeconds * 1000 }
    const claims = { address: session.owner, scope, jti: session.id, nbf: new Date(now).toISOString() }
    const text = await protocol.Encrypt(this.#key(), claims, {
      now: new Date(now),
      expiresIn: this.#ttlSeconds,
      implicitAssertion: this.#assertion,
    })
    return { token: new Secret(text), session }
  }

  /** @throws Failure `auth.invalid` */
  async verify(token: string): Promise<Session> {
    const session = await this.#decrypt(token)
    if (await this.#store.isRevoked(session.id)) throw new Failure('auth.invalid', 'The session was ended. Sign in again.')
    return session
  }

  /** Ends a session at once. Says false, and remembers nothing, for what is not a live session. */
  async revoke(token: string): Promise<boolean> {
    const session = await this.verify(token).catch((error: unknown) => {
      if (error instanceof Failure && error.code === 'auth.invalid') return undefined
      throw error
    })
    if (!session) return false
    await this.#store.prune(this.#now())
    await this.#store.revoke(session.id, session.expiresAt + clockToleranceSeconds * 1000)
    return true
  }

  async #decrypt(token: string): Promise<Session> {
    try {
      const { claims } = await protocol.Decrypt(this.#key(), token, {
        now: new Date(this.#now()),
        clockTolerance: clockToleranceSeconds,
        implicitAssertion: this.#assertion,
      })
      const { address, scope, jti, exp } = Claims.parse(claims)
      return { id: jti, owner: address, scope, expiresAt: Date.parse(exp) }
    } catch (cause) {
      const isExpired = cause instanceof ClaimValidationError && cause.claim === 'exp'
      throw new Failure(
        'auth.invalid',
        isExpired ? 'The session has expired. Sign in again.' : 'The session token is not valid. Sign in again.',
        {
          cause,
        },
      )
    }
  }
}
