// One door to everything about identity: sign-in, sessions, API keys, and who a request comes from.
import type { IncomingHttpHeaders } from 'node:http'
import { Failure } from '@atoll/protocol'
import type { Secret } from '../secrets/secret.ts'
import { type ApiKeyRecord, type ApiKeys, isKeyLike } from './api-keys.ts'
import { bearerToken, type Caller, isSameOwner, type Scope } from './caller.ts'
import type { Challenge, Challenges } from './challenge.ts'
import type { SignInLinks } from './first-start.ts'
import type { Session, Sessions } from './session.ts'

export interface SignedIn {
  readonly token: Secret
  readonly session: Session
}

export interface KeyRequest {
  readonly name: string
  readonly scope: Scope
  /** Only an admin may name somebody else. */
  readonly owner?: string | undefined
  readonly ttlMs?: number | undefined
}

export interface AuthParts {
  readonly challenges: Challenges
  readonly sessions: Sessions
  readonly keys: ApiKeys
  readonly links: SignInLinks
  /** Wallets that may sign in, in lower case; none named: every wallet. */
  readonly wallets?: ReadonlySet<string>
  readonly now?: () => number
}

export class Auth {
  readonly #challenges: Challenges
  readonly #sessions: Sessions
  readonly #keys: ApiKeys
  readonly #links: SignInLinks
  readonly #wallets: ReadonlySet<string>
  readonly #now: () => number

  constructor(parts: AuthParts) {
    this.#challenges = parts.challenges
    this.#sessions = parts.sessions
    this.#keys = parts.keys
    this.#links = parts.links
    this.#wallets = parts.wallets ?? new Set()
    this.#now = parts.now ?? Date.now
  }

  /**
   * Whose request this is. `X-API-Key` counts before `Authorization`, which may be meant for a program behind a port.
   * @throws Failure `auth.missing`, `auth.invalid`
   */
  async identify(headers: IncomingHttpHeaders): Promise<Caller> {
    const apiKey = headers['x-api-key']
    if (typeof apiKey === 'string' && apiKey !== '') return keyCaller(await this.#keys.verify(apiKey))
    return this.authenticate(headers.authorization)
  }

  /**
   * Whose `Authorization` header this is.
   * @throws Failure `auth.missing`, `auth.invalid`
   */
  async authenticate(header: string | undefined): Promise<Caller> {
    const token = bearerToken(header)
    if (isKeyLike(token)) return keyCaller(await this.#keys.verify(token))
    const { owner, scope, id, expiresAt } = await this.#sessions.verify(token)
    return { owner, scope, via: 'session', id, expiresAt }
  }

  challenge(request: { readonly address?: string | undefined; readonly client: string }): Challenge {
    return this.#challenges.issue(request)
  }

  /** Trades a signed challenge for a session. @throws Failure `auth.challenge_invalid`, `auth.forbidden` */
  async signIn(answer: { readonly nonce: string; readonly signature: string }): Promise<SignedIn> {
    const owner = this.#challenges.redeem(answer)
    if (this.#wallets.size > 0 && !this.#wallets.has(owner.toLowerCase())) {
      throw new Failure('auth.forbidden', `The wallet ${owner} may not use this operator. Ask the party that runs it.`)
    }
    return this.#sessions.issue({ owner, scope: 'owner' })
  }

  /** Trades the code of a sign-in link for a session. */
  async signInByLink(code: string): Promise<SignedIn> {
    return this.#sessions.issue(this.#links.redeem(code))
  }

  /**
   * Ends the session of an `Authorization` header; false when it is none.
   * @throws Failure `auth.missing` (400, as the reference operator answers), `auth.invalid`
   */
  async signOut(header: string | undefined): Promise<boolean> {
    if (header === undefined) throw new Failure('auth.missing', 'Missing Authorization header', { status: 400 })
    return this.#sessions.revoke(bearerToken(header))
  }

  /**
   * A key can do no more, and live no longer, than the key that made it.
   * @throws Failure `auth.forbidden`
   */
  async createKey(
    caller: Caller,
    { name, scope, owner = caller.owner, ttlMs }: KeyRequest,
  ): Promise<{ key: Secret; record: ApiKeyRecord }> {
    if (caller.scope !== 'admin') {
      if (caller.scope === 'read') throw new Failure('auth.forbidden', 'A credential of scope read cannot make API keys.')
      if (scope === 'admin') throw new Failure('auth.forbidden', 'Only an admin may make a key of scope admin.')
      if (!isSameOwner(owner, caller.owner)) throw new Failure('auth.forbidden', 'Only an admin may make a key for somebody else.')
    }
    const asked = ttlMs === undefined ? undefined : this.#now() + ttlMs
    const bound = caller.via === 'key' ? caller.expiresAt : undefined
    const ends = [asked, bound].filter((end) => end !== undefined)
    const madeBy = caller.via === 'key' ? caller.id : undefined
    return this.#keys.create({ name, scope, owner, expiresAt: ends.length > 0 ? Math.min(...ends) : undefined, madeBy })
  }

  /** The caller's own keys; an admin sees all. */
  listKeys(caller: Caller): Promise<ApiKeyRecord[]> {
    return this.#keys.list(caller.scope === 'admin' ? undefined : caller.owner)
  }

  /** The key that was ended. @throws Failure `key.not_found` */
  async revokeKey(caller: Caller, id: string): Promise<ApiKeyRecord> {
    return this.#keys.revoke(id, caller.scope === 'admin' ? undefined : caller.owner)
  }
}

/**
 * Whether a request shows a credential of this operator, right or wrong. Any other `Authorization` or `X-API-Key` is meant for a program
 * behind a port.
 */
export const isOurs = {
  authorization: (header: string | undefined): boolean => /^\s*bearer\s+((atoll|e2b)_|v4\.local\.)/i.test(header ?? ''),
  apiKey: (header: string | string[] | undefined): boolean => [header ?? []].flat().some(isKeyLike),
} as const

const keyCaller = ({ id, owner, scope, expiresAt }: ApiKeyRecord): Caller => ({ owner, scope, via: 'key', id, expiresAt })
