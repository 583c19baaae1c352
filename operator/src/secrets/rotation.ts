// A new sealing key, and everything sealed again under it.
import type { Locks } from '../sandboxes/locks.ts'
import type { Keyring } from './keyring.ts'

export interface Resealed {
  readonly resealed: number
  /** Texts that no key opens: damaged, or sealed with a key that is lost. They stay as they are. */
  readonly unreadable: number
}

export interface SealedTexts {
  /**
   * Puts what `change` makes of each sealed text in its place, in one transaction with the event of it; undefined leaves the text.
   * @param change.context what the text is sealed for
   */
  replaceAll(
    change: (sealed: string, context: string) => string | undefined,
    told: { readonly by: string; readonly keyId: string },
  ): Promise<Resealed>
}

export interface KeyRotationParts {
  readonly keyring: Keyring
  readonly texts: SealedTexts
  readonly locks: Locks
}

export class KeyRotation {
  readonly #parts: KeyRotationParts

  constructor(parts: KeyRotationParts) {
    this.#parts = parts
  }

  /**
   * Older keys stay in the ring, so that a backup of the store, and what is being sealed just now, still open.
   * @param by who asked for it
   * @throws Failure `config.invalid` when the key comes from the environment and was not changed there
   */
  rotate(by: string): Promise<Resealed & { readonly keyId: string }> {
    const { keyring, texts, locks } = this.#parts
    return locks.run('sealing-key', async () => {
      await keyring.rotate()
      const keyId = keyring.activeKeyId
      const change = (sealed: string, context: string): string | undefined => {
        const text = opened(keyring, sealed, context)
        return text === undefined ? undefined : keyring.seal(text, context)
      }
      return { keyId, ...(await texts.replaceAll(change, { by, keyId })) }
    })
  }
}

function opened(keyring: Keyring, sealed: string, context: string): string | undefined {
  try {
    return keyring.open(sealed, context)
  } catch {
    return undefined // It is counted; whoever needs the text is told what is wrong with it.
  }
}
