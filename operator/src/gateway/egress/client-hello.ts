// Reads the beginning of a TLS connection as it comes, to see whom it asks for. Nothing is decrypted.
import type { EgressDenial } from '@atoll/protocol'

const records = { changeCipherSpec: 20, handshake: 22 } as const
const clientHello = 1
const extensions = { serverName: 0, protocols: 16 } as const
const maxHelloBytes = 64 * 1024
const maxRecordBytes = 16_384

export interface Hello {
  /** Undefined: it names none. */
  readonly serverName: string | undefined
  /** Protocols above TLS that the client offers, best first. */
  readonly protocols: readonly string[]
}

/** Reads bytes in order; undefined past the end. */
class Cursor {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  take(count: number): Buffer | undefined {
    if (this.#at + count > this.#bytes.length) return undefined
    this.#at += count
    return this.#bytes.subarray(this.#at - count, this.#at)
  }

  number(bytes: 1 | 2 | 3): number | undefined {
    return this.take(bytes)?.readUIntBE(0, bytes)
  }

  /** What follows a length of so many bytes. */
  vector(lengthBytes: 1 | 2): Cursor | undefined {
    const length = this.number(lengthBytes)
    const bytes = length === undefined ? undefined : this.take(length)
    return bytes && new Cursor(bytes)
  }

  rest(): Buffer {
    return this.#bytes.subarray(this.#at)
  }
}

/** Undefined: the list does not hold exactly one name. */
function nameIn(extension: Cursor): string | undefined {
  const list = extension.vector(2)
  if (!list || !extension.isAtEnd || list.number(1) !== 0) return undefined
  const name = list.vector(2)
  return name && list.isAtEnd ? name.rest().toString('latin1') : undefined
}

function protocolsIn(extension: Cursor): string[] | undefined {
  const list = extension.vector(2)
  const found: string[] = []
  while (list && !list.isAtEnd) {
    const name = list.vector(1)
    if (!name) return undefined
    found.push(name.rest().toString('latin1'))
  }
  return list && extension.isAtEnd ? found : undefined
}

/** The extensions by their number; undefined when they are not well-formed, or one is there twice. */
function extensionsOf(body: Cursor): Map<number, Cursor> | undefined {
  const found = new Map<number, Cursor>()
  if (body.isAtEnd) return found
  const list = body.vector(2)
  if (!list || !body.isAtEnd) return undefined
  while (!list.isAtEnd) {
    const type = list.number(2)
    const content = list.vector(2)
    if (type === undefined || !content || found.has(type)) return undefined
    found.set(type, content)
  }
  return found
}

/** @param bytes the message without its type and length. Undefined: it is not well-formed. */
export function parseClientHello(bytes: Buffer): Hello | undefined {
  const body = new Cursor(bytes)
  if (body.number(1) !== 3 || !body.take(33)) return undefined
  if (!body.vector(1) || !body.vector(2) || !body.vector(1)) return undefined
  const found = extensionsOf(body)
  if (!found) return undefined
  const [name, offered] = [found.get(extensions.serverName), found.get(extensions.protocols)]
  const serverName = name && nameIn(name)
  const protocols = offered ? protocolsIn(offered) : []
  return (name && serverName === undefined) || !protocols ? undefined : { serverName, protocols }
}

/** `hold`: it cannot be said yet; `pass`: what came so far may be passed on; `over`: whatever follows may be, too. */
export type Reading = 'hold' | 'pass' | 'over' | { readonly denial: EgressDenial }

/**
 * Follows what a client sends until nothing can be a greeting any more: a server may ask for a second one, which could name somebody else.
 * Greetings may be in pieces, over records and packets.
 */
export class GreetingReader {
  readonly #expected: string | undefined
  #hello: Hello | undefined
  #reading: Reading = 'hold'
  #header = Buffer.alloc(0)
  #type = 0
  /** Bytes of the record that are still to come. */
  #left = 0
  #message: Buffer[] = []
  #messageBytes = 0

  /** @param expected the only name that may be asked for; undefined: there must be none */
  constructor(expected: string | undefined) {
    this.#expected = expected
  }

  /** The first greeting, once it was read. */
  get hello(): Hello | undefined {
    return this.#hello
  }

  /** Whether it is no TLS, by the first byte. */
  static isTls(bytes: Buffer): boolean {
    return bytes[0] === records.handshake
  }

  push(chunk: Buffer): Reading {
    let rest = chunk
    while (rest.length > 0 && this.#goesOn) rest = this.#left > 0 ? this.#content(rest) : this.#begin(rest)
    return this.#reading
  }

  get #goesOn(): boolean {
    return typeof this.#reading === 'string' && this.#reading !== 'over'
  }

  /** Takes the five bytes before a record. */
  #begin(bytes: Buffer): Buffer {
    const missing = 5 - this.#header.length
    this.#header = Buffer.concat([this.#header, bytes.subarray(0, missing)])
    const rest = bytes.subarray(missing)
    this.#type = this.#header[0] ?? 0
    if (!this.#mayFollow()) return rest
    this.#reading = 'hold'
    if (this.#header.length < 5) return rest
    this.#left = this.#header.readUInt16BE(3)
    const isUsual = this.#header[1] === 3 && this.#left > 0 && this.#left <= maxRecordBytes
    if (!isUsual) this.#reading = { denial: 'not_tls' }
    this.#header = Buffer.alloc(0)
    return rest
  }

  /** Whether a record of this type is looked into; the first one must be a handshake. */
  #mayFollow(): boolean {
    if (this.#type === records.handshake) return true
    if (this.#type === records.changeCipherSpec && this.#hello && this.#messageBytes === 0) return true
    this.#reading = this.#hello && this.#messageBytes === 0 ? 'over' : { denial: 'not_tls' }
    return false
  }

  #content(bytes: Buffer): Buffer {
    const part = bytes.subarray(0, this.#left)
    this.#left -= part.length
    if (this.#type === records.changeCipherSpec) {
      if (this.#left === 0) this.#reading = 'pass'
    } else this.#handshake(part)
    return bytes.subarray(part.length)
  }

  #handshake(part: Buffer): void {
    this.#message.push(part)
    this.#messageBytes += part.length
    const [first] = this.#message[0] ?? []
    if (first !== clientHello) {
      this.#reading = this.#hello ? 'over' : { denial: 'not_tls' }
      return
    }
    if (this.#messageBytes < 4) return
    const start = this.#messageBytes - part.length < 4 ? Buffer.concat(this.#message) : undefined
    if (start) this.#message = [start]
    const length = (this.#message[0]?.readUIntBE(1, 3) ?? 0) + 4
    if (length > maxHelloBytes || this.#messageBytes > length || (this.#messageBytes === length && this.#left > 0)) {
      this.#reading = { denial: 'tls_name' }
    } else if (this.#messageBytes === length) this.#check(Buffer.concat(this.#message).subarray(4))
  }

  #check(message: Buffer): void {
    const hello = parseClientHello(message)
    this.#message = []
    this.#messageBytes = 0
    const isExpected = hello && hello.serverName?.toLowerCase() === this.#expected
    if (isExpected) this.#hello ??= hello
    this.#reading = isExpected ? 'pass' : { denial: 'tls_name' }
  }
}
