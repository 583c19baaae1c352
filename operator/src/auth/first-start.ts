// What the party that runs the operator gets without signing in: an admin key in the state folder, and a link for the browser.
import { createHash, randomBytes } from 'node:crypto'
import path from 'node:path'
import { Failure } from '@atoll/protocol'
import { readPrivateFile, writePrivateFile } from '../secrets/private-file.ts'
import { Secret } from '../secrets/secret.ts'
import type { ApiKeys } from './api-keys.ts'
import type { Scope } from './caller.ts'

/** Owner of the admin key and of sessions from sign-in links. */
export const adminOwner = 'admin'

export interface AdminKey {
  readonly key: Secret
  readonly file: string
  readonly isNew: boolean
}

/**
 * The key of `<stateDir>/admin-key`, made on the first start, and made again when the file is gone or its key is not in the store.
 * @throws Failure `config.invalid` when others may read the file
 */
export async function ensureAdminKey({ keys, stateDir }: { readonly keys: ApiKeys; readonly stateDir: string }): Promise<AdminKey> {
  const file = path.join(stateDir, 'admin-key')
  const text = (await readPrivateFile(file))?.trim()
  if (text && (await isAdminKey(keys, text))) return { key: new Secret(text), file, isNew: false }
  const { key } = await keys.create({ name: 'admin-key', scope: 'admin', owner: adminOwner })
  await writePrivateFile(file, `${key.reveal()}\n`)
  return { key, file, isNew: true }
}

async function isAdminKey(keys: ApiKeys, text: string): Promise<boolean> {
  try {
    return (await keys.verify(text)).scope === 'admin'
  } catch (error) {
    if (error instanceof Failure && error.code === 'auth.invalid') return false
    throw error
  }
}

const linkTtlMs = 15 * 60_000
/** More than a person asks for; the oldest goes first. */
const maxLinks = 100

interface Link {
  readonly owner: string
  readonly scope: Scope
  readonly expiresAt: number
}

/** One-time codes that are traded for a session. They live in memory, as hashes. */
export class SignInLinks {
  readonly #links = new Map<string, Link>()
  readonly #now: () => number

  constructor({ now = Date.now }: { readonly now?: () => number } = {}) {
    this.#now = now
  }

  /** The code stands behind `#`, so that browsers send it to no server and keep it out of every log. */
  create({ origin, owner = adminOwner, scope = 'admin' }: { readonly origin: string; readonly owner?: string; readonly scope?: Scope }): {
    readonly url: Secret
    readonly expiresAt: number
  } {
    const code = randomBytes(32).toString('base64url')
    const expiresAt = this.#now() + linkTtlMs
    const [oldest] = this.#links.keys()
    if (oldest !== undefined && this.#links.size >= maxLinks) this.#links.delete(oldest)
    this.#links.set(hashOf(code), { owner, scope, expiresAt })
    return { url: new Secret(`${new URL(origin).origin}/#code=${code}`), expiresAt }
  }

  /** @throws Failure `auth.challenge_invalid` when the code is unknown, used or too old */
  redeem(code: string): { readonly owner: string; readonly scope: Scope } {
    const hash = hashOf(code)
    const link = this.#links.get(hash)
    this.#links.delete(hash)
    if (!link || link.expiresAt <= this.#now()) {
      throw new Failure('auth.challenge_invalid', 'The sign-in link was used or has expired. Ask for a new one, or use an API key.')
    }
    return { owner: link.owner, scope: link.scope }
  }
}

const hashOf = (code: string): string => createHash('sha256').update(code).digest('hex')
