// PASETO v4.local over node:crypto: the paseto package has its rules for tokens and claims, but no cipher for this version.
import { createCipheriv, randomBytes, timingSafeEqual } from 'node:crypto'
import { blake2b } from '@noble/hashes/blake2.js'
import { type Key, LocalDecrypt, LocalEncrypt, PAE } from 'paseto'
import type { Secret } from '../secrets/secret.ts'

const header = Buffer.from('v4.local.')
const nonceBytes = 32
const tagBytes = 32

export interface LocalKey extends Key {
  readonly material: Secret<Uint8Array>
}

/** @throws RangeError unless the key has 32 bytes */
export function localKey(material: Secret<Uint8Array>): LocalKey {
  if (material.reveal().length !== 32) throw new RangeError('A v4.local key has 32 bytes')
  return { algorithm: { name: 'PASETO v4.local' }, extractable: false, type: 'secret', material }
}

/** The nonce is only ever given by tests: a nonce used twice betrays both texts. */
export const encryptFactory = (nonce: () => Uint8Array = () => randomBytes(nonceBytes)) =>
  LocalEncrypt<4, LocalKey>({
    version: 4,
    run: async (key, text, footer, assertion) => {
      const n = nonce()
      const keys = splitKeys(key, n)
      const c = xchacha20(keys.encryption, keys.nonce, text)
      return Buffer.concat([n, c, tagOf(keys.authentication, [n, c, footer, assertion])])
    },
  })

export const decryptFactory = LocalDecrypt<4, LocalKey>({
  version: 4,
  run: async (key, payload, footer, assertion) => {
    if (payload.length < nonceBytes + tagBytes) throw new Error('The token is too short')
    const n = payload.subarray(0, nonceBytes)
    const c = payload.subarray(nonceBytes, -tagBytes)
    const keys = splitKeys(key, n)
    const tag = tagOf(keys.authentication, [n, c, footer, assertion])
    if (!timingSafeEqual(tag, payload.subarray(-tagBytes))) throw new Error('The token was not made with this key')
    return xchacha20(keys.encryption, keys.nonce, c)
  },
})

function splitKeys({ material }: LocalKey, nonce: Uint8Array): { encryption: Uint8Array; nonce: Uint8Array; authentication: Uint8Array } {
  const key = material.reveal()
  const both = blake2b(Buffer.concat([Buffer.from('paseto-encryption-key'), nonce]), { key, dkLen: 56 })
  const authentication = blake2b(Buffer.concat([Buffer.from('paseto-auth-key-for-aead'), nonce]), { key, dkLen: 32 })
  return { encryption: both.subarray(0, 32), nonce: both.subarray(32), authentication }
}

const tagOf = (key: Uint8Array, pieces: readonly Uint8Array[]): Uint8Array => blake2b(PAE([header, ...pieces]), { key, dkLen: tagBytes })

/** ChaCha20 with a 24-byte nonce: OpenSSL has it for 16 bytes (block counter and nonce) only. */
function xchacha20(key: Uint8Array, nonce: Uint8Array, text: Uint8Array): Uint8Array {
  const iv = Buffer.concat([Buffer.alloc(8), nonce.subarray(16)])
  return createCipheriv('chacha20', hchacha20(key, nonce.subarray(0, 16)), iv).update(text)
}

/**
 * HChaCha20 out of a plain ChaCha20 block. The block is the permuted state plus the state it began with; taking that away in the
 * first and last row leaves the permuted words, which are the derived key.
 */
function hchacha20(key: Uint8Array, nonce: Uint8Array): Uint8Array {
  const block = createCipheriv('chacha20', key, nonce).update(Buffer.alloc(64))
  const start = Buffer.concat([Buffer.from('expand 32-byte k'), Buffer.alloc(32), nonce])
  const derived = Buffer.alloc(32)
  for (let word = 0; word < 4; word += 1) {
    for (const [from, to] of [
      [word * 4, word * 4],
      [48 + word * 4, 16 + word * 4],
    ] as const) {
      derived.writeUInt32LE((block.readUInt32LE(from) - start.readUInt32LE(from)) >>> 0, to)
    }
  }
  return derived
}
