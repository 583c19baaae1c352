// Attacks on how messages are framed: a second request is hidden from the gateway in the first.
import type { EgressPolicyInput } from '@atoll/protocol'
import { tlsThrough } from '../clients.ts'
import { readAll } from '../subject.ts'
import { type Attack, bytes, outcomeIn } from './attack.ts'

export const framedRules: EgressPolicyInput = {
  mode: 'allowlist',
  rules: [{ host: 'open.example.com' }, { host: 'post.example.com', methods: ['POST'] }],
}

const hidden = 'GET http://open.example.com/hidden HTTP/1.1\r\nHost: open.example.com\r\n\r\n'

/** Headers of a request that is not one. */
const framings: Readonly<Record<string, string>> = {
  'a length and chunks': `Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`,
  'chunks and a length': `Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n${hidden}`,
  'two lengths': `Content-Length: 4\r\nContent-Length: 90\r\n\r\nabcd${hidden}`,
  'two lengths in one': `Content-Length: 4, 90\r\n\r\nabcd${hidden}`,
  'a length with a sign': `Content-Length: +4\r\n\r\nabcd${hidden}`,
  'a length below zero': `Content-Length: -4\r\n\r\nabcd${hidden}`,
  'a length in another base': `Content-Length: 0x4\r\n\r\nabcd${hidden}`,
  'a length with a space before its colon': `Content-Length : 4\r\n\r\nabcd${hidden}`,
  'chunks with a space before their colon': `Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${hidden}`,
  'a coding that is not chunks': `Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${hidden}`,
  'chunks that are not last': `Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${hidden}`,
  'two codings': `Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n${hidden}`,
  'a folded header': `X-Folded: a\r\n Content-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n${hidden}`,
  'a header without a colon': `Content-Length 4\r\n\r\nabcd${hidden}`,
  'a header with a byte of zero': `X-Zero: a\0b\r\n\r\n${hidden}`,
  'a carriage return alone': `X-Return: a\rContent-Length: 4\r\n\r\nabcd${hidden}`,
  'a chunk whose length is none': `Transfer-Encoding: chunked\r\n\r\nzz\r\n${hidden}`,
  'a chunk that is longer than it says': `Transfer-Encoding: chunked\r\n\r\n1\r\nabcdef\r\n0\r\n\r\n${hidden}`,
  'a chunk of the largest length': `Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nab\r\n0\r\n\r\n${hidden}`,
}

/** Refused by the parser, or what came before is passed on and the connection ends: never is what is hidden a request. */
const status = [400, 0, 200, 502, 403] as const

const plainly: readonly Attack[] = Object.entries(framings).map(([name, rest]) =>
  bytes(name, `POST http://open.example.com/f HTTP/1.1\r\nHost: open.example.com\r\n${rest}`, undefined, status),
)

const lookedInto: readonly Attack[] = Object.entries(framings).map(([name, rest]) => ({
  name: `${name}, looked into`,
  event: undefined,
  status,
  run: async (subject, sandbox) => {
    const { out } = await subject.run('cat "$NODE_EXTRA_CA_CERTS"', sandbox)
    const secured = await tlsThrough(subject, 'post.example.com:443', { ca: out }, sandbox)
    const answer = readAll(secured)
    secured.write(`POST /f HTTP/1.1\r\nHost: post.example.com\r\n${rest.replace('http://open.example.com', '')}`, 'latin1')
    return outcomeIn(await answer)
  },
}))

export const framingAttacks: readonly Attack[] = [...plainly, ...lookedInto]
