// Wallet sign-in: a text that names this operator, signed once.
import { randomBytes } from 'node:crypto'
import { Failure } from '@atoll/protocol'
import { checksumAddress, isAddress, recoverAddress } from './ethereum.ts'

const statement = 'Sign this message to authenticate with Tangle Sandbox.'

export interface ChallengeOptions {
  /** Where clients reach this operator; the text to sign names it, so that another site cannot pass it on unseen. */
  readonly origin: () => string
  readonly now?: () => number
  readonly ttlMs?: number
  readonly maxPending?: number
  /** Of one client address, so that nobody can use up the room of all. */
  readonly maxPendingPerClient?: number
}

export interface Challenge {
  readonly nonce: string
  /** To be signed as it is, with `personal_sign`. */
  readonly message: string
  /** Unix milliseconds, whole seconds. */
  readonly expiresAt: number
}

interface Pending {
  readonly message: string
  readonly expiresAt: number
  /** Lower-case; undefined when the challenge is for any address. */
  readonly address: string | undefined
  readonly client: string
}

/** Challenges that wait for their signature. They live in memory: one that a restart loses is asked for again. */
export class Challenges {
  readonly #origin: () => string
  readonly #now: () => number
  readonly #ttlMs: number
  readonly #maxPending: number
  readonly #maxPendingPerClient: number
  /** Oldest first: all live equally long, so the first to expire stand in front. */
  readonly #pending = new Map<string, Pending>()
  readonly #nonces = new Map<string, Set<string>>()

  constructor(options: ChallengeOptions) {
    this.#origin = options.origin
    this.#now = options.now ?? Date.now
    this.#ttlMs = options.ttlMs ?? 300_000
    this.#maxPending = options.maxPending ?? 10_000
    this.#maxPendingPerClient = options.maxPendingPerClient ?? 20
  }

  /**
   * @param client bucket of the client's address
   * @throws Failure `auth.too_many_challenges`, or `request.invalid` for something that is no address
   */
  issue({ address, client }: { readonly address?: string | undefined; readonly client: string }): Challenge {
    if (address !== undefined && !isAddress(address)) {
      throw new Failure('request.invalid', 'address: must be 0x and 40 hex digits, or be left out')
    }
    this.#prune()
    this.#admit(client)
    const nonce = randomBytes(32).toString('hex')
    const issuedAt = Math.floor(this.#now() / 1000) * 1000
    const expiresAt = issuedAt + this.#ttlMs
    const facts = { origin: new URL(this.#origin()), nonce, issuedAt, expiresAt }
    const message = address === undefined ? plainText(facts) : ethereumText({ ...facts, address })
    this.#pending.set(nonce, { message, expiresAt, address: address?.toLowerCase(), client })
    const own = this.#nonces.get(client) ?? new Set()
    this.#nonces.set(client, own.add(nonce))
    return { nonce, message, expiresAt }
  }

  /**
   * The lower-case address that signed. Whatever comes of it, the challenge is used up.
   * @throws Failure `auth.challenge_invalid`
   */
  redeem({ nonce, signature }: { readonly nonce: string; readonly signature: string }): string {
    const pending = this.#pending.get(nonce)
    if (!pending) throw new Failure('auth.challenge_invalid', 'Challenge not found or already consumed. Ask for a new one.')
    this.#forget(nonce, pending)
    if (pending.expiresAt <= this.#now()) throw new Failure('auth.challenge_invalid', 'Challenge expired. Ask for a new one.')
    const signer = recoverAddress(pending.message, signature)
    if (pending.address !== undefined && signer !== pending.address) {
      throw new Failure('auth.challenge_invalid', `The challenge was made for ${pending.address}, and another account signed it.`)
    }
    return signer
  }

  #admit(client: string): void {
    const own = this.#nonces.get(client)
    const [oldestOfClient] = own ?? []
    if (own && own.size >= this.#maxPendingPerClient) this.#refuse('from your address', oldestOfClient)
    const [oldest] = this.#pending.keys()
    if (this.#pending.size >= this.#maxPending) this.#refuse('in all', oldest)
  }

  #refuse(where: string, oldest: string | undefined): never {
    const expiresAt = this.#pending.get(oldest ?? '')?.expiresAt ?? this.#now()
    const retryAfterMs = Math.max(1000, expiresAt - this.#now())
    throw new Failure('auth.too_many_challenges', `Too many sign-ins are pending ${where}. Try again later.`, { retryAfterMs })
  }

  #prune(): void {
    for (const [nonce, pending] of this.#pending) {
      if (pending.expiresAt > this.#now()) return
      this.#forget(nonce, pending)
    }
  }

  #forget(nonce: string, { client }: Pending): void {
    this.#pending.delete(nonce)
    const own = this.#nonces.get(client)
    own?.delete(nonce)
    if (own?.size === 0) this.#nonces.delete(client)
  }
}

interface Facts {
  readonly origin: URL
  readonly nonce: string
  readonly issuedAt: number
  readonly expiresAt: number
}

const isoTime = (ms: number): string => new Date(ms).toISOString()

/** EIP-4361, which wallets show as a sign-in and compare with the site that asks. */
function ethereumText({ origin, nonce, issuedAt, expiresAt, address }: Facts & { readonly address: string }): string {
  return [
    `${origin.host} wants you to sign in with your Ethereum account:`,
    checksumAddress(address),
    '',
    statement,
    '',
    `URI: ${origin.origin}`,
    'Version: 1',
    'Chain ID: 1',
    `Nonce: ${nonce}`,
    `Issued At: ${isoTime(issuedAt)}`,
    `Expiration Time: ${isoTime(expiresAt)}`,
  ].join('\n')
}

/** For a client that does not say which account will sign: EIP-4361 cannot be written without it. */
function plainText({ origin, nonce, expiresAt }: Facts): string {
  return [statement, '', `Domain: ${origin.host}`, `URI: ${origin.origin}`, `Nonce: ${nonce}`, `Expires: ${expiresAt / 1000}`].join('\n')
}
