// A provider's answer on its way into the sandbox.
import type { ServerResponse } from 'node:http'
import zlib from 'node:zlib'
import type { Dispatcher } from 'undici'
import { namesIn } from './requests.ts'

/** Of one connection only, or none of the sandbox's business. */
const dropped = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'trailer',
  'set-cookie',
  'alt-svc',
])

/** Providers quote a wrong key in what they say of it. */
const maxQuoted = 256 * 1024

type Headers = Record<string, string | string[]>

export function headersOf(headers: Dispatcher.ResponseData['headers'], key: string): Headers {
  const ofConnection = new Set(namesIn(String(headers.connection ?? '')))
  const kept: Headers = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || dropped.has(name) || ofConnection.has(name) || String(value).includes(key)) continue
    kept[name] = value
  }
  return kept
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
async function sendRefusal(answer: Dispatcher.ResponseData, response: ServerResponse, headers: Headers, key: string): Promise<boolean> {
  const said = await shortBody(answer.body).catch(() => undefined)
  if (response.destroyed || said === undefined) {
    response.destroy()
    return false
  }
  const { 'content-encoding': encoding, ...plain } = headers
  const text = decoded(said, String(encoding ?? ''))
  const hides = text === undefined || text.includes(key)
  const body = text === undefined ? Buffer.from('') : Buffer.from(text.toString('utf8').replaceAll(key, '[secret]'))
  const sent = hides ? { headers: plain, body } : { headers, body: said }
  response.writeHead(answer.statusCode, answer.statusText, { ...sent.headers, 'content-length': sent.body.length })
  response.end(sent.body)
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
