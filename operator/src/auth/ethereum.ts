// Ethereum addresses and personal signatures (EIP-55, EIP-191).
import { Failure } from '@atoll/protocol'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { keccak_256 } from '@noble/hashes/sha3.js'

const signatureBytes = 65

export const isAddress = (text: string): boolean => /^0x[0-9a-fA-F]{40}$/.test(text)

/** The address with the capital letters of EIP-55, which wallets show. */
export function checksumAddress(address: string): string {
  const digits = address.slice(2).toLowerCase()
  const hash = Buffer.from(keccak_256(Buffer.from(digits))).toString('hex')
  const marked = [...digits].map((digit, index) => (Number.parseInt(hash.charAt(index), 16) >= 8 ? digit.toUpperCase() : digit))
  return `0x${marked.join('')}`
}

/** What a wallet signs when it is given a text with `personal_sign`. */
export function personalMessageHash(message: string): Uint8Array {
  const bytes = Buffer.from(message)
  return keccak_256(Buffer.concat([Buffer.from(`\x19Ethereum Signed Message:\n${bytes.length}`), bytes]))
}

/**
 * The lower-case address whose key signed the message. A signature with a high `s` is taken too: every challenge is used once, so a
 * second form of one signature is worth nothing. Signatures of contract wallets (EIP-1271) need a chain and are not understood.
 * @throws Failure `auth.challenge_invalid`
 */
export function recoverAddress(message: string, signature: string): string {
  const { r, s, recovery } = parseSignature(signature)
  try {
    const point = new secp256k1.Signature(r, s, recovery).recoverPublicKey(personalMessageHash(message))
    return addressOf(point.toBytes(false))
  } catch (cause) {
    throw new Failure('auth.challenge_invalid', 'Signature recovery failed. Sign the message with personal_sign and try again.', { cause })
  }
}

/** The address of an uncompressed public key. */
export const addressOf = (publicKey: Uint8Array): string =>
  `0x${Buffer.from(keccak_256(publicKey.subarray(1)))
    .toString('hex')
    .slice(-40)}`

function parseSignature(text: string): { r: bigint; s: bigint; recovery: number } {
  const hex = text.replace(/^0x/i, '')
  if (!/^[0-9a-f]*$/i.test(hex) || hex.length % 2 === 1) throw new Failure('auth.challenge_invalid', 'Invalid signature hex')
  if (hex.length !== signatureBytes * 2) {
    throw new Failure('auth.challenge_invalid', `Signature must be 65 bytes, got ${hex.length / 2}. Contract wallets cannot sign in.`)
  }
  const v = Number.parseInt(hex.slice(128), 16)
  const recovery = v >= 27 ? v - 27 : v
  if (recovery !== 0 && recovery !== 1) throw new Failure('auth.challenge_invalid', `Invalid recovery id: ${v}`)
  return { r: BigInt(`0x${hex.slice(0, 64)}`), s: BigInt(`0x${hex.slice(64, 128)}`), recovery }
}
