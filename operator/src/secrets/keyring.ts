// The operator's keys: they seal what is secret in the store, and the keys of sessions and preview links are derived from them.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import path from 'node:path'
import { Failure } from '@atoll/protocol'
import { z } from 'zod'
import type { Seal } from '../sandboxes/secrets.ts'
import { createPrivateFile, readPrivateFile, writePrivateFile } from './private-file.ts'
import { Secret } from './secret.ts'

const keyBytes = 32
const nonceBytes = 12
const tagBytes = 16
const cipher = 'chacha20-poly1305'

const KeyFile = z.strictObject({
  version: z.literal(1),
  /** Tells this operator from another one that uses the same secret. */
  operatorId: z.string().regex(/^[0-9a-f]{32}$/),
  /** Id of the key that seals; absent while a secret of the environment does. */
  active: z.string().optional(),
  keys: z.array(z.strictObject({ id: z.string().regex(/^k[0-9a-f]{8}$/), key: z.base64url().length(43), createdAt: z.iso.datetime() })),
})
type KeyFile = z.infer<typeof KeyFile>

/** What a derived key is for; each purpose has a key of its own. */
export type KeyPurpose = 'session' | 'preview'

interface RootKey {
  readonly id: string
  readonly root: Secret<Uint8Array>
  readonly seal: Secret<Uint8Array>
}

export interface KeyringOptions {
  readonly stateDir: string
  /** `SESSION_AUTH_SECRET`: seals instead of the key file's own key. */
  readonly sessionSecret?: Secret | undefined
  /** Earlier values of it, so that what they sealed still opens. */
  readonly previousSecrets?: readonly Secret[]
  readonly now?: () => number
}

export class Keyring implements Seal {
  readonly operatorId: string
  readonly #file: string
  readonly #now: () => number
  readonly #keys: Map<string, RootKey>
  readonly #isFromEnvironment: boolean
  #active: RootKey
  #stored: KeyFile

  private constructor(parts: { file: string; stored: KeyFile; environment: readonly RootKey[]; now: () => number }) {
    this.#file = parts.file
    this.#stored = parts.stored
    this.#now = parts.now
    this.operatorId = parts.stored.operatorId
    const own = parts.stored.keys.map(({ id, key }) => rootKey(id, Buffer.from(key, 'base64url')))
    this.#keys = new Map([...own, ...parts.environment].map((key) => [key.id, key]))
    const active = parts.environment[0] ?? this.#keys.get(parts.stored.active ?? '')
    if (!active) throw new Failure('config.invalid', `${parts.file} names an active key that it does not hold. Restore it from a backup.`)
    this.#isFromEnvironment = parts.environment.length > 0
    this.#active = active
  }

  /**
   * Reads the key file, or makes it on the first start.
   * @throws Failure `config.invalid` when it is damaged or open to others, or the secret is too short
   */
  static async open(options: KeyringOptions): Promise<Keyring> {
    const now = options.now ?? Date.now
    const file = path.join(options.stateDir, 'keys.json')
    const environment = options.sessionSecret ? [options.sessionSecret, ...(options.previousSecrets ?? [])].map(environmentKey) : []
    const hasSecret = environment.length > 0
    let stored = (await readKeyFile(file)) ?? (await createKeyFile(file, hasSecret ? emptyRing() : withNewKey(emptyRing(), now())))
    if (!hasSecret && stored.active === undefined) {
      stored = withNewKey(stored, now())
      await writePrivateFile(file, serialized(stored))
    }
    return new Keyring({ file, stored, environment, now })
  }

  /** Id of the key that seals. */
  get activeKeyId(): string {
    return this.#active.id
  }

  /** `v1.<key id>.<nonce, text and tag in base64url>`; opens only with the same context. */
  seal(text: string, context: string): string {
    const { id, seal } = this.#active
    const nonce = randomBytes(nonceBytes)
    const sealing = createCipheriv(cipher, seal.reveal(), nonce, { authTagLength: tagBytes })
    sealing.setAAD(associated(id, context), { plaintextLength: Buffer.byteLength(text) })
    const bytes = Buffer.concat([nonce, sealing.update(text, 'utf8'), sealing.final(), sealing.getAuthTag()])
    return `v1.${id}.${bytes.toString('base64url')}`
  }

  /** @throws Failure `config.invalid` when the key is not in the ring, `internal` when the text is not what was sealed */
  open(sealed: string, context: string): string {
    const [version, id = '', encoded = '', ...rest] = sealed.split('.')
    const bytes = Buffer.from(encoded, 'base64url')
    if (version !== 'v1' || rest.length > 0 || bytes.length < nonceBytes + tagBytes) {
      throw new Failure('internal', `The sealed value of ${context} is damaged.`)
    }
    const key = this.#keys.get(id)
    if (!key) {
      throw new Failure(
        'config.invalid',
        `The sealed value of ${context} needs key ${id}, which this operator does not have. Restore keys.json or the earlier SESSION_AUTH_SECRET.`,
      )
    }
    try {
      const opening = createDecipheriv(cipher, key.seal.reveal(), bytes.subarray(0, nonceBytes), { authTagLength: tagBytes })
      const body = bytes.subarray(nonceBytes, -tagBytes)
      opening.setAAD(associated(id, context), { plaintextLength: body.length })
      opening.setAuthTag(bytes.subarray(-tagBytes))
      return Buffer.concat([opening.update(body), opening.final()]).toString('utf8')
    } catch (error) {
      throw new Failure('internal', `The sealed value of ${context} was changed, or sealed for something else.`, { cause: error })
    }
  }

  /**
   * The key of one purpose, from the active key only: a rotation ends every session and preview link, which is what a leaked key
   * asks for.
   */
  deriveKey(purpose: KeyPurpose): Secret<Uint8Array> {
    return derived(this.#active.root, `atoll/${purpose}/v1`)
  }

  /** The key that the end of the audit log was authenticated with; undefined: it is not in the ring. */
  auditKey(keyId: string): Secret<Uint8Array> | undefined {
    const key = this.#keys.get(keyId)
    return key && derived(key.root, 'atoll/audit/v1')
  }

  /**
   * Makes a new active key; what older keys sealed still opens. A secret of the environment was made new by whoever changed it.
   * @throws Failure `config.invalid` when it comes from the environment and nothing was sealed with another one
   */
  async rotate(): Promise<void> {
    if (this.#isFromEnvironment) {
      if (this.#keys.size > 1) return
      throw new Failure(
        'config.invalid',
        'The active key comes from SESSION_AUTH_SECRET. Rotate by changing it: give the earlier one as ATOLL_PREVIOUS_SESSION_SECRET, restart, and do this again.',
        { status: 409 },
      )
    }
    const stored = withNewKey(this.#stored, this.#now())
    await writePrivateFile(this.#file, serialized(stored))
    const made = stored.keys.at(-1)
    if (!made) return
    this.#stored = stored
    this.#active = rootKey(made.id, Buffer.from(made.key, 'base64url'))
    this.#keys.set(made.id, this.#active)
  }
}

/** The context is what the value belongs to; with the key id it is authenticated, so a value cannot be moved to another place. */
const associated = (id: string, context: string): Buffer => Buffer.from(`v1.${id}\0${context}`)

function derived(root: Secret<Uint8Array>, info: string): Secret<Uint8Array> {
  return new Secret(new Uint8Array(hkdfSync('sha256', root.reveal(), 'atoll', info, keyBytes)))
}

function rootKey(id: string, bytes: Uint8Array): RootKey {
  const root = new Secret(bytes)
  return { id, root, seal: derived(root, 'atoll/seal/v1') }
}

function environmentKey(secret: Secret): RootKey {
  const bytes = Buffer.from(secret.reveal())
  if (bytes.length < keyBytes) {
    throw new Failure(
      'config.invalid',
      `SESSION_AUTH_SECRET has ${bytes.length} bytes; it must have at least ${keyBytes}. Try: openssl rand -hex 32`,
    )
  }
  const root = derived(new Secret(bytes), 'atoll/root/v1').reveal()
  const fingerprint = Buffer.from(derived(new Secret(bytes), 'atoll/fingerprint/v1').reveal()).toString('hex')
  return rootKey(`env-${fingerprint.slice(0, 8)}`, root)
}

function withNewKey(stored: KeyFile, now: number): KeyFile {
  const id = `k${randomBytes(4).toString('hex')}`
  const key = randomBytes(keyBytes).toString('base64url')
  return { ...stored, active: id, keys: [...stored.keys, { id, key, createdAt: new Date(now).toISOString() }] }
}

const serialized = (stored: KeyFile): string => `${JSON.stringify(stored, undefined, 2)}\n`

const emptyRing = (): KeyFile => ({ version: 1, operatorId: randomBytes(16).toString('hex'), keys: [] })

async function createKeyFile(file: string, fresh: KeyFile): Promise<KeyFile> {
  if (await createPrivateFile(file, serialized(fresh))) return fresh
  // Another start was faster; its file counts.
  const other = await readKeyFile(file)
  if (!other) throw new Failure('config.invalid', `${file} vanished while the operator started. Start it again.`)
  return other
}

async function readKeyFile(file: string): Promise<KeyFile | undefined> {
  const text = await readPrivateFile(file)
  if (text === undefined) return undefined
  try {
    return KeyFile.parse(JSON.parse(text))
  } catch (cause) {
    // The cause may quote the text, which is secret.
    const reason = cause instanceof z.ZodError ? z.prettifyError(cause) : 'it is not JSON'
    throw new Failure('config.invalid', `${file} is damaged (${reason}). Restore it from a backup: what it sealed needs its keys.`)
  }
}
