// A name server over UDP for tests: answers from a table that may change between two questions.
import dgram from 'node:dgram'
import { once } from 'node:events'
import ipaddr from 'ipaddr.js'

/** Of one name: its addresses, the name that it is another word for, or that nothing is said of it. */
export type Answer = readonly string[] | { readonly alias: string } | { readonly silent: true }

export interface DnsServer {
  /** `address:port` */
  readonly address: string
  /** Names that were asked for, in order, once for each kind of record. */
  readonly asked: string[]
  close(): void
}

const types = { a: 1, cname: 5, aaaa: 28 } as const

function nameAt(message: Buffer): { name: string; end: number } {
  const labels: string[] = []
  let at = 12
  for (let length = message[at] ?? 0; length > 0; length = message[at] ?? 0) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), end: at + 5 }
}

const encoded = (name: string): Buffer =>
  Buffer.concat([...name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])), Buffer.from([0])])

function record(name: string, type: number, data: Buffer): Buffer {
  const fixed = Buffer.alloc(10)
  fixed.writeUInt16BE(type, 0)
  fixed.writeUInt16BE(1, 2)
  fixed.writeUInt16BE(data.length, 8)
  return Buffer.concat([encoded(name), fixed, data])
}

const addressRecords = (name: string, type: number, addresses: readonly string[]): Buffer[] =>
  addresses
    .map((address) => Buffer.from(ipaddr.parse(address).toByteArray()))
    .filter((bytes) => type === (bytes.length === 4 ? types.a : types.aaaa))
    .map((bytes) => record(name, type, bytes))

function recordsOf(name: string, type: number, answerOf: (name: string) => Answer | undefined, hops = 0): Buffer[] | 'silent' | undefined {
  const answer = answerOf(name)
  if (answer === undefined || hops > 8) return undefined
  if ('silent' in answer) return 'silent'
  if (!('alias' in answer)) return addressRecords(name, type, answer)
  const further = recordsOf(answer.alias, type, answerOf, hops + 1) ?? []
  return further === 'silent' ? further : [record(name, types.cname, encoded(answer.alias)), ...further]
}

/** @param answerOf asked anew for each question; undefined: there is no such name */
export async function startDnsServer(answerOf: (name: string) => Answer | undefined, host = '127.0.0.1', port = 0): Promise<DnsServer> {
  const socket = dgram.createSocket('udp4')
  const asked: string[] = []
  socket.on('message', (message, from) => {
    const { name, end } = nameAt(message)
    const type = message.readUInt16BE(end - 4)
    asked.push(name)
    const records = recordsOf(name, type, answerOf)
    if (records === 'silent') return
    const header = Buffer.from(message.subarray(0, 12))
    header.writeUInt16BE(records ? 0x8180 : 0x8183, 2)
    header.writeUInt16BE(records?.length ?? 0, 6)
    header.fill(0, 8)
    socket.send(Buffer.concat([header, message.subarray(12, end), ...(records ?? [])]), from.port, from.address)
  })
  socket.bind(port, host)
  await once(socket, 'listening')
  return { address: `${host}:${socket.address().port}`, asked, close: () => socket.close() }
}
