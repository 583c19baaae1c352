// Links that open one port of one sandbox in a browser until they expire.
import { createHmac, timingSafeEqual } from 'node:crypto'
import { Failure } from '@atoll/protocol'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'

/** What a token allows: this port of this sandbox, for its owner, until then (unix seconds). */
interface Grant {
  readonly sandboxId: string
  readonly port: number
  readonly expiresAt: number
}

export const previewParameter = 'atoll_token'
export const previewCookie = 'atoll_preview'

const invalid = (): Failure =>
  new Failure('port.token_invalid', 'This preview link is forged, expired or for another port. Make a new one.')

export class Previews {
  readonly #key: () => Uint8Array
  readonly #now: () => number
  readonly #address: (sandboxId: string, port: number) => string

  /**
   * @param parts.key asked for each token: when it changes, every link ends
   * @param parts.address where a port is opened in a browser
   */
  constructor(parts: { key: () => Uint8Array; now: () => number; address: (sandboxId: string, port: number) => string }) {
    this.#key = parts.key
    this.#now = parts.now
    this.#address = parts.address
  }

  link(sandbox: SandboxRecord, port: number, ttlSeconds: number): { url: string; token: string; expires_at: number } {
    assertExposed(sandbox, port)
    const expiresAt = Math.floor(this.#now() / 1000) + ttlSeconds
    const token = `${expiresAt}.${this.#sign({ sandboxId: sandbox.id, port, expiresAt })}`
    return { url: `${this.#address(sandbox.id, port)}?${previewParameter}=${token}`, token, expires_at: expiresAt }
  }

  /** What the first valid one of several tokens allows. @throws Failure `port.token_invalid` when none is */
  verify(tokens: readonly string[], sandboxId: string, port: number): { expiresAt: number } {
    for (const token of tokens) {
      const expiresAt = this.#expiryOf(token, sandboxId, port)
      if (expiresAt !== undefined) return { expiresAt }
    }
    throw invalid()
  }

  #expiryOf(token: string, sandboxId: string, port: number): number | undefined {
    const [, seconds, signature] = /^(\d{1,12})\.([\w-]{43})$/.exec(token) ?? []
    if (seconds === undefined || signature === undefined) return undefined
    const expiresAt = Number(seconds)
    const right = this.#sign({ sandboxId, port, expiresAt })
    const isRight = timingSafeEqual(Buffer.from(signature), Buffer.from(right))
    return isRight && expiresAt * 1000 > this.#now() ? expiresAt : undefined
  }

  #sign({ sandboxId, port, expiresAt }: Grant): string {
    return createHmac('sha256', this.#key()).update(`preview\n${sandboxId}\n${port}\n${expiresAt}`).digest('base64url')
  }
}

/** @throws Failure `port.not_exposed` */
export function assertExposed(sandbox: SandboxRecord, port: number): void {
  if (sandbox.ports.includes(port)) return
  throw new Failure('port.not_exposed', `Port ${port} is not exposed on this sandbox. Name it in metadata_json.ports when you create one.`)
}
