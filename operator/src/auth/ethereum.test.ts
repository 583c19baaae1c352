import assert from 'node:assert/strict'
import { test } from 'node:test'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { checksumAddress, isAddress, personalMessageHash, recoverAddress } from './ethereum.ts'

/** From the documentation of web3.js: `accounts.sign('Some data', key)`. */
const known = {
  message: 'Some data',
  hash: '1da44b586eb0729ff70a73c326926f6ed5a25f5b056e7f47fbc6e58d86871655',
  r: 'b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd',
  s: '6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a029',
  address: '0x2c7536e3605d9c16a7a3d7b1898e529396a65c23',
}

test('a known personal signature gives the known address', () => {
  assert.equal(Buffer.from(personalMessageHash(known.message)).toString('hex'), known.hash)
  for (const signature of [`0x${known.r}${known.s}1c`, `${known.r}${known.s}01`, `0X${known.r}${known.s}1C`.toUpperCase()]) {
    assert.equal(recoverAddress(known.message, signature), known.address)
  }
})

test('the length in the signed text counts bytes, not characters', () => {
  const wanted = keccak_256(Buffer.from('\x19Ethereum Signed Message:\n17Zürich 🏔\nline', 'utf8'))
  assert.deepEqual(personalMessageHash('Zürich 🏔\nline'), wanted)
})

test('the other form of a signature, with a high s, names the same address', () => {
  const s = secp256k1.Point.CURVE().n - BigInt(`0x${known.s}`)
  assert.equal(recoverAddress(known.message, `${known.r}${s.toString(16).padStart(64, '0')}1b`), known.address)
})

test('what is no signature is refused with the reason', () => {
  const rs = known.r + known.s
  const cases: [string, RegExp][] = [
    ['', /65 bytes, got 0/],
    ['0x', /65 bytes, got 0/],
    [rs, /65 bytes, got 64/],
    [`${rs}1c00`, /65 bytes, got 66/],
    [`${rs}1`, /Invalid signature hex/],
    [`${rs}zz`, /Invalid signature hex/],
    [`${rs}02`, /Invalid recovery id: 2/],
    [`${rs}1d`, /Invalid recovery id: 29/],
    [`${'0'.repeat(128)}1b`, /recovery failed/],
    [`${'f'.repeat(128)}1b`, /recovery failed/],
  ]
  for (const [signature, message] of cases) {
    assert.throws(() => recoverAddress(known.message, signature), { code: 'auth.challenge_invalid', message })
  }
})

test('addresses are shown with the capital letters of EIP-55', () => {
  const examples = [
    '0x52908400098527886E0F7030069857D2E4169EE7',
    '0xde709f2102306220921060314715629080e2fb77',
    '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed',
    '0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb',
  ]
  for (const address of examples) assert.equal(checksumAddress(address.toLowerCase()), address)
  assert.equal(isAddress('0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe'), false)
  assert.equal(isAddress(` ${examples[0]}`), false)
})
