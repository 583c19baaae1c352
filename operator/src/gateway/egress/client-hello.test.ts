import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import tls from 'node:tls'
import { GreetingReader, parseClientHello, type Reading } from './client-hello.ts'

/** The first bytes that a real client sends. */
function greeting(options: tls.ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve) => {
    const wire = new Duplex({ read: () => undefined, write: (chunk: Buffer) => resolve(chunk) })
    tls.connect({ socket: wire, ...options }).on('error', () => undefined)
  })
}

/** What the reader says last of chunks of so many bytes. */
function read(bytes: Buffer, expected: string | undefined, size = bytes.length): { reading: Reading; reader: GreetingReader } {
  const reader = new GreetingReader(expected)
  let reading: Reading = 'hold'
  for (let at = 0; at < bytes.length; at += size) reading = reader.push(bytes.subarray(at, at + size))
  return { reading, reader }
}

const record = (type: number, content: Buffer): Buffer => {
  const header = Buffer.from([type, 3, 1, 0, 0])
  header.writeUInt16BE(content.length, 3)
  return Buffer.concat([header, content])
}
/** The same message in records of so many bytes. */
const inRecords = (bytes: Buffer, size: number): Buffer => {
  const message = bytes.subarray(5)
  const pieces = Array.from({ length: Math.ceil(message.length / size) }, (_, index) => message.subarray(index * size, (index + 1) * size))
  return Buffer.concat(pieces.map((piece) => record(22, piece)))
}

test('the name and the protocols of a greeting are read, however it is cut into packets and records', async () => {
  const hello = await greeting({ servername: 'api.example.com', ALPNProtocols: ['h2', 'http/1.1'] })
  for (const bytes of [hello, inRecords(hello, 1), inRecords(hello, 7), inRecords(hello, 100)]) {
    for (const size of [bytes.length, 1, 3, 64]) {
      const { reading, reader } = read(bytes, 'api.example.com', size)
      assert.equal(reading, 'pass')
      assert.deepEqual(reader.hello, { serverName: 'api.example.com', protocols: ['h2', 'http/1.1'] })
    }
  }
  for (const options of [{ maxVersion: 'TLSv1.2' as const }, { minVersion: 'TLSv1.3' as const }]) {
    assert.equal(read(await greeting({ servername: 'api.example.com', ...options }), 'api.example.com').reading, 'pass')
  }
})

test('another name than the expected one, or none, is not passed on', async () => {
  const other = await greeting({ servername: 'evil.example.com' })
  const none = await greeting({})
  assert.deepEqual(read(other, 'api.example.com').reading, { denial: 'tls_name' })
  assert.deepEqual(read(none, 'api.example.com').reading, { denial: 'tls_name' })
  assert.deepEqual(read(other, undefined).reading, { denial: 'tls_name' })
  assert.equal(read(none, undefined).reading, 'pass')
})

test('nothing is passed on before the greeting is whole', async () => {
  const hello = await greeting({ servername: 'api.example.com' })
  const reader = new GreetingReader('api.example.com')
  for (let at = 0; at < hello.length - 1; at++) assert.equal(reader.push(hello.subarray(at, at + 1)), 'hold')
  assert.equal(reader.push(hello.subarray(-1)), 'pass')
})

test('a second greeting is read like the first, and what is none ends the reading', async () => {
  const good = await greeting({ servername: 'api.example.com' })
  const other = await greeting({ servername: 'evil.example.com' })
  const change = record(20, Buffer.from([1]))
  const after = (...parts: Buffer[]): Reading => read(Buffer.concat([good, ...parts]), 'api.example.com', 50).reading
  assert.equal(after(change), 'pass')
  assert.equal(after(change, good), 'pass')
  assert.deepEqual(after(change, other), { denial: 'tls_name' })
  assert.deepEqual(after(inRecords(other, 1)), { denial: 'tls_name' })
  assert.equal(after(record(23, Buffer.from('early data'))), 'over')
  assert.equal(after(change, record(22, Buffer.from([16, 0, 0, 1, 0]))), 'over')
  assert.equal(after(record(23, Buffer.alloc(5)), other), 'over', 'a server takes no greeting after that')
})

test('what is no greeting is told from one', () => {
  const none = { denial: 'not_tls' }
  for (const text of ['GET / HTTP/1.1\r\n\r\n', 'SSH-2.0-x\r\n', 'EHLO x\r\n', '\x80\x2e\x01\x03\x01', '\0']) {
    assert.deepEqual(read(Buffer.from(text, 'latin1'), 'api.example.com').reading, none, text)
  }
  assert.deepEqual(read(record(23, Buffer.from('x')), 'api.example.com').reading, none)
  assert.deepEqual(read(record(22, Buffer.alloc(0)), 'api.example.com').reading, none, 'an empty record')
  assert.deepEqual(read(record(22, Buffer.from([2, 0, 0, 0])), 'api.example.com').reading, none, 'a greeting of a server')
  assert.deepEqual(read(Buffer.from([22, 2, 0, 0, 5]), 'api.example.com').reading, none, 'an old version')
  assert.deepEqual(read(Buffer.from([22, 3, 1, 0xff, 0xff]), 'api.example.com').reading, none, 'a record that is too long')
})

test('a greeting that is too long, damaged, or names two hosts is refused', async () => {
  const hello = await greeting({ servername: 'api.example.com' })
  const bad = { denial: 'tls_name' }
  const changed = (at: number, value: number): Reading => {
    const copy = Buffer.from(hello)
    copy[at] = value
    return read(copy, 'api.example.com').reading
  }
  assert.deepEqual(changed(6, 0xff), bad, 'a length of 16 MiB')
  assert.deepEqual(changed(9, 9), bad, 'a version that is none')
  const name = hello.indexOf('api.example.com')
  for (const at of [name - 1, name - 2, name - 3, name - 4, name - 5, name - 6, name - 7])
    assert.deepEqual(changed(at, 0xee), bad, String(at))
  assert.deepEqual(read(record(22, Buffer.concat([hello.subarray(5), Buffer.from([1])])), 'api.example.com').reading, bad, 'more behind it')
  const twice = Buffer.from(hello)
  // The type of another extension becomes that of the name.
  const versions = twice.indexOf(Buffer.from([0x00, 0x2b, 0x00]))
  assert.ok(versions > 0)
  twice.writeUInt16BE(0, versions)
  assert.deepEqual(read(twice, 'api.example.com').reading, bad, 'two names')
})

test('pieces of nothing are no greeting', () => {
  for (let length = 0; length < 200; length++) assert.equal(parseClientHello(Buffer.alloc(length, 3)), undefined)
})
