// API keys: random text that is shown once and kept as a hash.
import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto'
import { Failure } from '@atoll/protocol'
import { Secret } from '../secrets/secret.ts'
import { canonicalOwner, type Scope } from './caller.ts'

/** Times are unix milliseconds. */
export interface ApiKeyRecord {
  readonly id: string
  /** SHA-256 in hex. The key is 256 random bits, so a slow hash would add nothing. */
  readonly hash: string
  readonly name: string
  readonly scope: Scope
  readonly owner: string
  readonly createdAt: number
  readonly lastUsedAt: number | undefined
  readonly expiresAt: number | undefined
  /** Id of the key that made it. */
  readonly madeBy: string | undefined
}

export interface ApiKeyStore {
  insert(key: ApiKeyRecord): Promise<void>
  get(id: string): Promise<ApiKeyRecord | undefined>
  findByHash(hash: string): Promise<ApiKeyRecord | undefined>
  /** Of an owner or (without one) of all, newest first. */
  list(owner: string | undefined): Promise<ApiKeyRecord[]>
  /** Those that a key has made. */
  madeBy(id: string): Promise<ApiKeyRecord[]>
  remove(id: string): Promise<void>
  setLastUsed(id: string, lastUsedAt: number): Promise<void>
}

export interface NewApiKey {
  readonly name: string
  readonly scope: Scope
  readonly owner: string
  /** Unix milliseconds. */
  readonly expiresAt?: number | undefined
  readonly madeBy?: string | undefined
}

/** `e2b_` is taken for `atoll_<scope>_`, because E2B's clients refuse any other beginning. */
const keyPattern = /^(?:atoll_[ora]_|e2b_)([0-9a-f]{64})([0-9a-f]{8})$/
const lastUsedStepMs = 60_000

export class ApiKeys {
  readonly #store: ApiKeyStore
  readonly #now: () => number

  constructor({ store, now = Date.now }: { readonly store: ApiKeyStore; readonly now?: () => number }) {
    this.#store = store
    this.#now = now
  }

  async create({ name, scope, owner, expiresAt, madeBy }: NewApiKey): Promise<{ key: Secret; record: ApiKeyRecord }> {
    const random = randomBytes(32).toString('hex')
    const record: ApiKeyRecord = {
      id: `key-${randomUUID()}`,
      hash: hashOf(random),
      name,
      scope,
      owner: canonicalOwner(owner),
      createdAt: this.#now(),
      lastUsedAt: undefined,
      expiresAt,
      madeBy,
    }
    await this.#store.insert(record)
    return { key: new Secret(`atoll_${scope.charAt(0)}_${random}${checksumOf(random)}`), record }
  }

  /** @throws Failure `auth.invalid` */
  async verify(text: string): Promise<ApiKeyRecord> {
    const [, random = '', checksum] = keyPattern.exec(text) ?? []
    if (checksum === undefined || checksum !== checksumOf(random)) {
      throw new Failure('auth.invalid', 'This is not an API key: a part is missing or mistyped. Copy it again.')
    }
    const hash = hashOf(random)
    const record = await this.#store.findByHash(hash)
    if (!record || !isSameHash(record.hash, hash)) {
      throw new Failure('auth.invalid', 'The API key is unknown to this operator or was revoked. Make a new one.')
    }
    const now = this.#now()
    if (record.expiresAt !== undefined && record.expiresAt <= now) {
      throw new Failure('auth.invalid', 'The API key has expired. Make a new one.')
    }
    if (now - (record.lastUsedAt ?? 0) >= lastUsedStepMs) await this.#store.setLastUsed(record.id, now)
    return record
  }

  list(owner: string | undefined): Promise<ApiKeyRecord[]> {
    return this.#store.list(owner === undefined ? undefined : canonicalOwner(owner))
  }

  /**
   * Ends a key, and with it those that it made for its own owner or with the rights of an admin: whoever stole it could have made them. Keys
   * that an admin made for other owners live on, or no admin could change its own key.
   * @param owner whose key it must be; undefined: anybody's
   * @throws Failure `key.not_found`
   */
  async revoke(id: string, owner: string | undefined): Promise<ApiKeyRecord> {
    const record = await this.#store.get(id)
    if (!record || (owner !== undefined && record.owner !== canonicalOwner(owner))) {
      throw new Failure('key.not_found', `There is no API key ${id}. List yours with GET /api/keys.`)
    }
    await this.#end(record)
    return record
  }

  async #end(record: ApiKeyRecord): Promise<void> {
    await this.#store.remove(record.id)
    for (const made of await this.#store.madeBy(record.id)) {
      if (made.owner === record.owner || made.scope === 'admin') await this.#end(made)
    }
  }
}

/** Looks like an API key, right or wrong; anything else is tried as a session. */
export const isKeyLike = (text: string): boolean => /^(atoll|e2b)_/.test(text)

const hashOf = (random: string): string => createHash('sha256').update(`atoll api key ${random}`).digest('hex')

/** Tells a typing error from an unknown key without a look in the store. */
const checksumOf = (random: string): string => createHash('sha256').update(`atoll checksum ${random}`).digest('hex').slice(0, 8)

function isSameHash(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)]
  return a.length === b.length && timingSafeEqual(a, b)
}
