// The certificate authority of each sandbox, which that sandbox alone trusts. Its key is sealed in the store.
import { createPrivateKey, createPublicKey } from 'node:crypto'
import { createSecureContext, type SecureContext } from 'node:tls'
import { z } from 'zod'
import type { Seal } from '../../sandboxes/secrets.ts'
import { type AuthorityKeys, authorityCertificate, newKeys, serverCertificate } from './certificates.ts'
import type { EgressStore } from './store.ts'

export interface AuthoritiesParts {
  readonly store: Pick<EgressStore, 'authority' | 'setAuthority'>
  readonly seal: Seal
  readonly now: () => number
}

const day = 86_400_000
/** Clocks of sandboxes that were paused are late. */
const backDatedMs = 2 * day
const authorityMs = 3 * 365 * day
const serverMs = 30 * day
const maxCached = 500

/** What the keys of an authority are sealed for. */
export const authorityContext = (sandboxId: string): string => `sandbox/${sandboxId}/egress-authority`

const Kept = z.object({ key: z.string(), certificate: z.string() })

const pemOf = (key: ReturnType<typeof newKeys>['privateKey']): string => key.export({ type: 'pkcs8', format: 'pem' }).toString()

export class Authority {
  /** For whoever is to trust it. */
  readonly pem: string
  readonly #keys: AuthorityKeys
  readonly #now: () => number
  readonly #server = newKeys()
  readonly #contexts = new Map<string, { readonly context: SecureContext; readonly until: number }>()

  constructor(parts: { readonly pem: string; readonly keys: AuthorityKeys; readonly now: () => number }) {
    this.pem = parts.pem
    this.#keys = parts.keys
    this.#now = parts.now
  }

  /** What a server of this name shows. */
  contextFor(host: string): SecureContext {
    const known = this.#contexts.get(host)
    if (known && known.until > this.#now()) return known.context
    const notBefore = new Date(this.#now() - backDatedMs)
    const notAfter = new Date(this.#now() + serverMs)
    const cert = serverCertificate(host, this.#server.publicKey, this.#keys, { notBefore, notAfter })
    const context = createSecureContext({ cert, key: pemOf(this.#server.privateKey), minVersion: 'TLSv1.2' })
    if (this.#contexts.size >= maxCached) this.#contexts.clear()
    this.#contexts.set(host, { context, until: this.#now() + serverMs / 2 })
    return context
  }
}

export class Authorities {
  readonly #parts: AuthoritiesParts
  readonly #open = new Map<string, Promise<Authority>>()

  constructor(parts: AuthoritiesParts) {
    this.#parts = parts
  }

  /** Made when it is first asked for, and the same one as long as the sandbox lives. */
  of(sandboxId: string): Promise<Authority> {
    const known = this.#open.get(sandboxId)
    if (known) return known
    const opened = this.#opened(sandboxId)
    this.#open.set(sandboxId, opened)
    opened.catch(() => this.#open.delete(sandboxId))
    return opened
  }

  forget(sandboxId: string): void {
    this.#open.delete(sandboxId)
  }

  async #opened(sandboxId: string): Promise<Authority> {
    const { store, seal, now } = this.#parts
    // Two sandboxes' authorities are told apart by their name.
    const name = `Atoll egress of ${sandboxId.slice(0, 44)}`
    const sealed = await store.authority(sandboxId)
    if (sealed !== undefined) {
      const { key, certificate } = Kept.parse(JSON.parse(seal.open(sealed, authorityContext(sandboxId))))
      const privateKey = createPrivateKey(key)
      return new Authority({ pem: certificate, keys: { name, privateKey, publicKey: createPublicKey(privateKey) }, now })
    }
    const keys = { name, ...newKeys() }
    const validity = { notBefore: new Date(now() - backDatedMs), notAfter: new Date(now() + authorityMs) }
    const pem = authorityCertificate(keys, validity)
    const kept = JSON.stringify({ key: pemOf(keys.privateKey), certificate: pem } satisfies z.infer<typeof Kept>)
    await store.setAuthority(sandboxId, seal.seal(kept, authorityContext(sandboxId)))
    return new Authority({ pem, keys, now })
  }
}
