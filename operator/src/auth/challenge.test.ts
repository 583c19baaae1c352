import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '@atoll/protocol'
import { Challenges } from './challenge.ts'
import { checksumAddress } from './ethereum.ts'
import { Wallet } from './testing/wallet.ts'

const origin = () => 'https://atoll.example:9443'
const client = '192.0.2.1'

function clock(start = 1_700_000_000_500) {
  let time = start
  return { now: () => time, advance: (ms: number) => (time += ms) }
}

const refused = (message: RegExp) => ({ code: 'auth.challenge_invalid', status: 401, message })

test('a signed challenge gives the address that signed, with and without an address named before', () => {
  const challenges = new Challenges({ origin })
  const wallet = new Wallet()
  for (const address of [undefined, wallet.address, checksumAddress(wallet.address)]) {
    const { nonce, message } = challenges.issue({ address, client })
    assert.match(nonce, /^[0-9a-f]{64}$/)
    assert.equal(challenges.redeem({ nonce, signature: wallet.sign(message) }), wallet.address)
  }
})

test('a challenge for an address is a sign-in message of EIP-4361 that names the operator', () => {
  const { now } = clock()
  const wallet = new Wallet()
  const { nonce, message, expiresAt } = new Challenges({ origin, now }).issue({ address: wallet.address, client })
  const lines = [
    'atoll.example:9443 wants you to sign in with your Ethereum account:',
    checksumAddress(wallet.address),
    '',
    'Sign this message to authenticate with Tangle Sandbox.',
    '',
    'URI: https://atoll.example:9443',
    'Version: 1',
    'Chain ID: 1',
    `Nonce: ${nonce}`,
    'Issued At: 2023-11-14T22:13:20.000Z',
    'Expiration Time: 2023-11-14T22:18:20.000Z',
  ]
  assert.equal(message, lines.join('\n'))
  assert.equal(expiresAt, Date.parse('2023-11-14T22:18:20.000Z'))
})

test('a challenge for any address names the operator too', () => {
  const { now } = clock()
  const { nonce, message } = new Challenges({ origin, now }).issue({ client })
  const lines = [
    'Sign this message to authenticate with Tangle Sandbox.',
    '',
    'Domain: atoll.example:9443',
    'URI: https://atoll.example:9443',
    `Nonce: ${nonce}`,
    'Expires: 1700000300',
  ]
  assert.equal(message, lines.join('\n'))
})

test('a challenge is used up by any answer, also a wrong one', () => {
  const challenges = new Challenges({ origin })
  const wallet = new Wallet()
  const { nonce, message } = challenges.issue({ client })
  assert.throws(() => challenges.redeem({ nonce, signature: 'zz' }), refused(/Invalid signature hex/))
  assert.throws(() => challenges.redeem({ nonce, signature: wallet.sign(message) }), refused(/not found or already consumed/))
})

test('a challenge for one account cannot be signed by another, nor for another operator', () => {
  const challenges = new Challenges({ origin })
  const [wallet, other] = [new Wallet(), new Wallet()]
  const first = challenges.issue({ address: wallet.address, client })
  assert.throws(() => challenges.redeem({ nonce: first.nonce, signature: other.sign(first.message) }), refused(/another account/))
  const second = challenges.issue({ address: wallet.address, client })
  const elsewhere = second.message.replaceAll('atoll.example:9443', 'phish.example')
  assert.throws(() => challenges.redeem({ nonce: second.nonce, signature: wallet.sign(elsewhere) }), refused(/another account/))
})

test('a challenge ends after five minutes', () => {
  const { now, advance } = clock()
  const challenges = new Challenges({ origin, now })
  const wallet = new Wallet()
  const late = challenges.issue({ client })
  const intime = challenges.issue({ client })
  advance(299_000)
  assert.equal(challenges.redeem({ nonce: intime.nonce, signature: wallet.sign(intime.message) }), wallet.address)
  advance(1000)
  assert.throws(() => challenges.redeem({ nonce: late.nonce, signature: wallet.sign(late.message) }), refused(/expired/))
})

test('one client can have 20 challenges pending and does not keep others out', () => {
  const { now, advance } = clock()
  const challenges = new Challenges({ origin, now })
  for (let count = 0; count < 20; count += 1) challenges.issue({ client })
  assert.throws(
    () => challenges.issue({ client }),
    (error: unknown) =>
      error instanceof Failure && error.code === 'auth.too_many_challenges' && error.status === 503 && error.retryAfterMs === 299_500,
  )
  challenges.issue({ client: '192.0.2.2' })
  advance(299_500)
  challenges.issue({ client })
})

test('answered challenges make room', () => {
  const challenges = new Challenges({ origin, maxPendingPerClient: 1 })
  const { nonce } = challenges.issue({ client })
  assert.throws(() => challenges.issue({ client }), { code: 'auth.too_many_challenges' })
  assert.throws(() => challenges.redeem({ nonce, signature: '' }))
  challenges.issue({ client })
})

test('at most 10 000 challenges are pending in all, and they go when their time is over', () => {
  const { now, advance } = clock()
  const challenges = new Challenges({ origin, now })
  const fill = (): void => {
    for (let count = 0; count < 10_000; count += 1) challenges.issue({ client: `client-${count >> 4}` })
  }
  fill()
  assert.throws(() => challenges.issue({ client: 'late' }), { code: 'auth.too_many_challenges', message: /in all/ })
  advance(300_000)
  fill()
})

test('what is no address is refused before a challenge is made', () => {
  const challenges = new Challenges({ origin })
  for (const address of [
    '',
    '0x',
    'alice',
    `0x${'g'.repeat(40)}`,
    `0x${'a'.repeat(41)}`,
    `0x${'a'.repeat(40)}\nURI: https://phish.example`,
  ]) {
    assert.throws(() => challenges.issue({ address, client }), { code: 'request.invalid' })
  }
})
