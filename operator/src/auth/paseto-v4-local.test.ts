import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LocalProtocol } from 'paseto'
import { Secret } from '../secrets/secret.ts'
import { decryptFactory, encryptFactory, localKey } from './paseto-v4-local.ts'

const key = localKey(new Secret(Buffer.from('707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f', 'hex')))
const nonce = 'df654812bac492663825520ba2f6e67cf5ca5bdc13d4e7507a98cc4c2fcc3ad8'
const kid = '{"kid":"zVhMiPBP9fRf2snEcT7gFTioeA9COcNy9DfgL1W60haN"}'

/** From the official test vectors of the PASETO standard. */
const vectors = [
  {
    name: '4-E-1',
    nonce: '00'.repeat(32),
    data: 'this is a secret message',
    footer: '',
    assertion: '',
    token:
      'v4.local.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQAr68PS4AXe7If_ZgesdkUMvSwscFlAl1pk5HC0e8kApeaqMfGo_7OpBnwJOAbY9V7WU6abu74MmcUE8YWAiaArVI8XJ5hOb_4v9RmDkneN0S92dx0OW4pgy7omxgf3S8c3LlQg',
  },
  {
    name: '4-E-3',
    nonce,
    data: 'this is a secret message',
    footer: '',
    assertion: '',
    token:
      'v4.local.32VIErrEkmY4JVILovbmfPXKW9wT1OdQepjMTC_MOtjA4kiqw7_tcaOM5GNEcnTxl60WkwMsYXw6FSNb_UdJPXjpzm0KW9ojM5f4O2mRvE2IcweP-PRdoHjd5-RHCiExR1IK6t6-tyebyWG6Ov7kKvBdkrrAJ837lKP3iDag2hzUPHuMKA',
  },
  {
    name: '4-E-8',
    nonce,
    data: 'this is a hidden message',
    footer: kid,
    assertion: '{"test-vector":"4-E-8"}',
    token:
      'v4.local.32VIErrEkmY4JVILovbmfPXKW9wT1OdQepjMTC_MOtjA4kiqw7_tcaOM5GNEcnTxl60WiA8rd3wgFSNb_UdJPXjpzm0KW9ojM5f4O2mRvE2IcweP-PRdoHjd5-RHCiExR1IK6t5uvqQbMGlLLNYBc7A6_x7oqnpUK5WLvj24eE4DVPDZjw.eyJraWQiOiJ6VmhNaVBCUDlmUmYyc25FY1Q3Z0ZUaW9lQTlDT2NOeTlEZmdMMVc2MGhhTiJ9',
  },
] as const

for (const vector of vectors) {
  test(`tokens are made and read as the standard's vector ${vector.name} says`, async () => {
    const protocol = new LocalProtocol(
      encryptFactory(() => Buffer.from(vector.nonce, 'hex')),
      decryptFactory,
    )
    const claims = { data: vector.data, exp: '2022-01-01T00:00:00+00:00' }
    const common = { now: new Date('2021-01-01T00:00:00Z'), implicitAssertion: Buffer.from(vector.assertion) }
    const footer = Buffer.from(vector.footer)
    assert.equal(await protocol.Encrypt(key, claims, { ...common, footer, addIssuedAt: false }), vector.token)
    const result = await protocol.Decrypt(key, vector.token, common)
    assert.deepEqual({ ...result.claims }, claims)
    assert.equal(Buffer.from(result.footer).toString(), vector.footer)
    await assert.rejects(protocol.Decrypt(key, vector.token, { ...common, implicitAssertion: Buffer.from('another') }))
  })
}

test('a token with any changed byte is refused', async () => {
  const protocol = new LocalProtocol(encryptFactory(), decryptFactory)
  const token = await protocol.Encrypt(key, { data: 'x' })
  const bytes = Buffer.from(token.slice('v4.local.'.length), 'base64url')
  for (const [index, byte] of bytes.entries()) {
    const changed = Buffer.from(bytes)
    changed[index] = byte ^ 0x80
    await assert.rejects(protocol.Decrypt(key, `v4.local.${changed.toString('base64url')}`))
  }
  for (let length = 0; length < 65; length += 1) {
    await assert.rejects(protocol.Decrypt(key, `v4.local.${bytes.subarray(0, length).toString('base64url')}`))
  }
})
