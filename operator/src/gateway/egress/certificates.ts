// Certificates of a sandbox's own authority: two fixed shapes of X.509, in DER, signed with ECDSA on P-256.
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'

const tags = { integer: 0x02, bits: 0x03, octets: 0x04, oid: 0x06, utf8: 0x0c, generalizedTime: 0x18, sequence: 0x30, set: 0x31 } as const

function lengthOf(count: number): Buffer {
  if (count < 0x80) return Buffer.from([count])
  const bytes = count < 0x100 ? [count] : [count >> 8, count & 0xff]
  return Buffer.from([0x80 | bytes.length, ...bytes])
}

function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([tag]), lengthOf(content.length), content])
}

const sequence = (...parts: readonly Uint8Array[]): Buffer => der(tags.sequence, ...parts)
const octets = (content: Uint8Array): Buffer => der(tags.octets, content)
const yes = Buffer.from([0x01, 0x01, 0xff])

/** @param dotted of arcs below 16 384, of which the first two are one byte together */
function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  const bytes = rest.flatMap((arc) => (arc < 0x80 ? [arc] : [0x80 | (arc >> 7), arc & 0x7f]))
  return der(tags.oid, Buffer.from([first * 40 + second, ...bytes]))
}

const ecdsaWithSha256 = sequence(Buffer.from('06082a8648ce3d040302', 'hex'))
const commonName = (text: string): Buffer => sequence(der(tags.set, sequence(oid('2.5.4.3'), der(tags.utf8, Buffer.from(text)))))

/** `YYYYMMDDhhmmssZ`. Years from 2050 on must be written so, and earlier ones are understood. */
const time = (at: Date): Buffer => {
  const digits = at.toISOString().replaceAll(/\.\d+|[-:T]/g, '')
  return at.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(digits.slice(2))) : der(tags.generalizedTime, Buffer.from(digits))
}

function extension(id: string, content: Uint8Array, isCritical = false): Buffer {
  return sequence(oid(id), ...(isCritical ? [yes] : []), octets(content))
}

const spki = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' })
const keyId = (key: KeyObject): Buffer => createHash('sha256').update(spki(key)).digest().subarray(0, 20)

/** Positive, and of nineteen bytes at random. */
const serial = (): Buffer => der(tags.integer, Buffer.from([0x40]), randomBytes(19))

interface Shape {
  readonly issuer: Buffer
  readonly subject: Buffer
  readonly key: KeyObject
  readonly extensions: readonly Buffer[]
  readonly notBefore: Date
  readonly notAfter: Date
}

function signed({ issuer, subject, key, extensions, notBefore, notAfter }: Shape, signer: KeyObject): string {
  const version3 = der(0xa0, Buffer.from([0x02, 0x01, 0x02]))
  const validity = sequence(time(notBefore), time(notAfter))
  const content = sequence(
    ...[version3, serial(), ecdsaWithSha256, issuer, validity, subject, spki(key)],
    der(0xa3, sequence(...extensions)),
  )
  const signature = der(tags.bits, Buffer.from([0]), sign('sha256', content, signer))
  const lines =
    sequence(content, ecdsaWithSha256, signature)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
}

export const newKeys = (): { publicKey: KeyObject; privateKey: KeyObject } => generateKeyPairSync('ec', { namedCurve: 'P-256' })

interface Validity {
  readonly notBefore: Date
  readonly notAfter: Date
}

export interface AuthorityKeys {
  readonly name: string
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

/** Signs itself, and may sign certificates of servers but of no other authority. In PEM. */
export function authorityCertificate({ name, publicKey, privateKey }: AuthorityKeys, validity: Validity): string {
  const extensions = [
    extension('2.5.29.19', sequence(yes, Buffer.from([0x02, 0x01, 0x00])), true),
    // keyCertSign and cRLSign.
    extension('2.5.29.15', der(tags.bits, Buffer.from([0x01, 0x06])), true),
    extension('2.5.29.14', octets(keyId(publicKey))),
  ]
  const self = commonName(name)
  return signed({ issuer: self, subject: self, key: publicKey, extensions, ...validity }, privateKey)
}

/** A certificate of a server for one name. In PEM. */
export function serverCertificate(host: string, key: KeyObject, authority: AuthorityKeys, validity: Validity): string {
  const extensions = [
    extension('2.5.29.19', sequence(), true),
    // digitalSignature.
    extension('2.5.29.15', der(tags.bits, Buffer.from([0x07, 0x80])), true),
    extension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.1'))),
    extension('2.5.29.17', sequence(der(0x82, Buffer.from(host)))),
    extension('2.5.29.14', octets(keyId(key))),
    extension('2.5.29.35', sequence(der(0x80, keyId(authority.publicKey)))),
  ]
  // A common name has at most 64 characters; who checks names looks at the alternative one.
  const subject = commonName(host.length <= 64 ? host : 'Atoll sandbox egress')
  return signed({ issuer: commonName(authority.name), subject, key, extensions, ...validity }, authority.privateKey)
}
