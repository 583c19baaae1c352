// What tests sign in with: a key of an Ethereum account, and what its wallet does with `personal_sign`.
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { addressOf, personalMessageHash } from '../ethereum.ts'

export class Wallet {
  readonly #keys = secp256k1.keygen()

  /** Lower-case. */
  get address(): string {
    return addressOf(secp256k1.Point.fromBytes(this.#keys.publicKey).toBytes(false))
  }

  sign(message: string): string {
    const options = { prehash: false, format: 'recovered' } as const
    const [recovery = 0, ...rs] = secp256k1.sign(personalMessageHash(message), this.#keys.secretKey, options)
    return `0x${Buffer.from([...rs, recovery + 27]).toString('hex')}`
  }
}
