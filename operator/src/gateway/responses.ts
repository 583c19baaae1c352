// A provider's answer on its way into the sandbox.
import type { ServerResponse } from 'node:http'
import zlib from 'node:zlib'
import type { Dispatcher } from 'undici'
import { endToEnd, pairsOf, valuesOf } from './headers.ts'

/** None of the sandbox's business. */
const dropped = ['transfer-encoding', 'set-cookie', 'alt-svc']

/** Providers quote a wrong key in what they say of it. */
const maxQuoted = 256 * 1024

/** Names and values, flat. @param key never to be seen in the sandbox */
export const headersOf = (headers: Dispatcher.ResponseData['headers'], key: string): string[] => {
  const raw = Object.entries(headers).flatMap(([name, value]) => [value ?? []].flat().flatMap((one) => [name, one]))
  return pairsOf(endToEnd(raw, dropped))
    .filter(([, value]) => !value.includes(key))
    .flat()
}

export interface Passing {
  /** Never to be seen in the sandbox. */
  readonly key: string
  readonly tap: (chunk: Buffer) => void
}

/** Answers whether all of it went through. */
export async function passOn(answer: Dispatcher.ResponseData, response: ServerResponse, { key, tap }: Passing): Promise<boolean> {
  const headers = headersOf(answer.headers, key)
  if (response.destroyed) {
    answer.body.destroy()
    return false
  }
  if (answer.statusCode >= 400) return sendRefusal(answer, response, headers, key)
  response.writeHead(answer.statusCode, answer.statusText, headers)
  response.flushHeaders()
  const { body } = answer
  return new Promise((resolve) => {
    let isOver = false
    const over = (isWhole: boolean): void => {
      if (isOver) return
      isOver = true
      resolve(isWhole)
      if (isWhole) response.end()
      else response.destroy()
    }
    body.on('data', (chunk: Buffer) => {
      tap(chunk)
      if (!response.write(chunk)) body.pause()
    })
    response.on('drain', () => body.resume())
    response.once('close', () => over(response.writableFinished))
    body.once('end', () => over(true))
    body.once('error', () => over(false))
  })
}

/** What a provider says against a call is short, so it is looked through first. What is longer is none of it, and is not passed on. */
async function sendRefusal(answer: Dispatcher.ResponseData, response: ServerResponse, headers: string[], key: string): Promise<boolean> {
  const said = await shortBody(answer.body).catch(() => undefined)
  if (response.destroyed || said === undefined) {
    response.destroy()
    return false
  }
  const text = decoded(said, valuesOf(headers, 'content-encoding').join(','))
  const isSafe = text !== undefined && !text.includes(key)
  const body = isSafe ? said : Buffer.from(text?.toString('utf8').replaceAll(key, '[secret]') ?? '')
  const kept = endToEnd(headers, isSafe ? ['content-length'] : ['content-length', 'content-encoding'])
  response.writeHead(answer.statusCode, answer.statusText, [...kept, 'content-length', String(body.length)])
  response.end(body)
  return true
}

/** @throws Error when it is longer than what is looked through */
async function shortBody(body: Dispatcher.ResponseData['body']): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size > maxQuoted) throw new Error('the refusal is too long')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

const decoders: Readonly<Record<string, (body: Buffer, options: { readonly maxOutputLength: number }) => Buffer>> = {
  '': (body) => body,
  identity: (body) => body,
  gzip: zlib.gunzipSync,
  deflate: zlib.inflateSync,
  br: zlib.brotliDecompressSync,
  zstd: zlib.zstdDecompressSync,
}

/** Undefined when it cannot be read, so that nobody knows what is in it. */
function decoded(body: Buffer, encoding: string): Buffer | undefined {
  try {
    return decoders[encoding.trim().toLowerCase()]?.(body, { maxOutputLength: 4 * maxQuoted })
  } catch {
    return undefined
  }
}
