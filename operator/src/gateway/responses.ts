// A provider's answer on its way into the sandbox.
import type { ServerResponse } from 'node:http'
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
  const isRefusal = answer.statusCode >= 400 && Number(headers['content-length'] ?? 0) <= maxQuoted
  if (isRefusal && headers['content-encoding'] === undefined) return sendRefusal(answer, response, headers, key)
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

/** What a provider says against a call is short, so it is looked through first. */
async function sendRefusal(answer: Dispatcher.ResponseData, response: ServerResponse, headers: Headers, key: string): Promise<boolean> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of answer.body) chunks.push(chunk)
  } catch {
    response.destroy()
    return false
  }
  const said = Buffer.concat(chunks)
  const shown = said.includes(key) ? Buffer.from(said.toString('utf8').replaceAll(key, '[secret]')) : said
  response.writeHead(answer.statusCode, answer.statusText, { ...headers, 'content-length': shown.length })
  response.end(shown)
  return true
}
