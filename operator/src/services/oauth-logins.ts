// Logins at providers. Their refresh tokens change with each use, so the operator alone uses them, one use at a time.
import { Failure } from '@atoll/protocol'
import { z } from 'zod'
import type { Seal } from '../sandboxes/secrets.ts'
import { Secret } from '../secrets/secret.ts'
import type { ProviderKeyRecord, ServiceStore } from './store.ts'

/** What is sealed of a login. Times are unix milliseconds. */
const Login = z.object({
  refreshToken: z.string(),
  tokenUrl: z.string(),
  clientId: z.string(),
  format: z.enum(['form', 'json']),
  accessToken: z.string().optional(),
  expiresAt: z.number().optional(),
})
export type Login = z.infer<typeof Login>

export interface Refreshed {
  readonly accessToken: string
  /** Undefined: the old one goes on being good. */
  readonly refreshToken: string | undefined
  readonly expiresInSeconds: number | undefined
}

/** Asks the provider for new tokens. @throws Failure `provider.login_expired` when it refuses, `provider.unreachable` */
export type Refresh = (login: Login) => Promise<Refreshed>

export interface OAuthLoginsParts {
  readonly store: ServiceStore
  readonly seal: Seal
  readonly refresh: Refresh
  readonly now: () => number
}

/** A token is not used in its last minute, in which a call could outlive it. */
const marginMs = 60_000
const usualLifeMs = 3600_000
/** A provider that refuses tokens which it has just given is not asked again for so long. */
const refusedMs = 30_000

export const loginText = (login: Login): string => JSON.stringify(login)

export class OAuthLogins {
  readonly #parts: OAuthLoginsParts
  readonly #refreshing = new Map<string, Promise<Secret>>()
  readonly #refused = new Map<string, number>()

  constructor(parts: OAuthLoginsParts) {
    this.#parts = parts
  }

  /**
   * A token that can be used now.
   * @param context what the login is sealed for
   * @throws Failure `provider.login_expired`, `provider.unreachable`
   */
  async accessToken(record: ProviderKeyRecord, context: string): Promise<Secret> {
    const login = Login.parse(JSON.parse(this.#parts.seal.open(record.sealed, context)))
    const isGood = login.accessToken !== undefined && (login.expiresAt ?? 0) - marginMs > this.#parts.now()
    if (isGood && login.accessToken !== undefined && !this.#refused.has(context)) return new Secret(login.accessToken)
    const under = this.#refreshing.get(context)
    if (under) return under
    const refreshing = this.#refresh(record, context).finally(() => this.#refreshing.delete(context))
    this.#refreshing.set(context, refreshing)
    return refreshing
  }

  /** The provider did not take the token, whatever it said of its life: the next call fetches another one. */
  refused(context: string): void {
    const { now } = this.#parts
    const last = this.#refused.get(`${context}/at`) ?? 0
    if (now() - last < refusedMs) return
    this.#refused.set(`${context}/at`, now())
    this.#refused.set(context, now())
  }

  async #refresh(record: ProviderKeyRecord, context: string): Promise<Secret> {
    const { store, seal, refresh, now } = this.#parts
    // Read again: between the look of the caller and now an earlier refresh may have ended.
    const current = (await store.key(record.serviceId, record.provider)) ?? record
    const login = Login.parse(JSON.parse(seal.open(current.sealed, context)))
    const isNew = current.sealed !== record.sealed && (login.expiresAt ?? 0) - marginMs > now() && login.accessToken !== undefined
    if (isNew && login.accessToken !== undefined) return new Secret(login.accessToken)
    const { accessToken, refreshToken = login.refreshToken, expiresInSeconds } = await refresh(login)
    const expiresAt = now() + (expiresInSeconds === undefined ? usualLifeMs : expiresInSeconds * 1000)
    const next = { ...login, accessToken, refreshToken, expiresAt }
    // Before it is used: the old refresh token is of no use any more.
    const isKept = await store.replaceSealed(current, seal.seal(loginText(next), context))
    this.#refused.delete(context)
    if (!isKept) throw new Failure('provider.login_expired', `The login at ${record.provider} was replaced meanwhile. Try again.`)
    return new Secret(accessToken)
  }
}
