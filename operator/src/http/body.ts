// Request bodies: JSON within a size and a time.
import type { IncomingMessage } from 'node:http'
import { Failure } from '@atoll/protocol'

const usualJsonBytes = 1_048_576
const maxJsonMs = 30_000

const tooLarge = (maxBytes: number): Failure =>
  new Failure('request.too_large', `A JSON body may have at most ${maxBytes} bytes here. Send files through the files routes.`)

/** The whole body as bytes. What is too much is not read further. */
async function readAll(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  if (Number(incoming.headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes)
  const timer = setTimeout(() => incoming.destroy(new Failure('request.timeout', 'The body did not arrive within 30 s.')), maxJsonMs)
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of incoming) {
      size += chunk.length
      if (size > maxBytes) throw tooLarge(maxBytes)
      chunks.push(chunk)
    }
  } finally {
    clearTimeout(timer)
  }
  return Buffer.concat(chunks)
}

/** The parsed body; undefined when there is none. @throws Failure `request.invalid_json`, `request.content_type`, `request.too_large` */
export async function readJson(incoming: IncomingMessage, maxBytes = usualJsonBytes): Promise<unknown> {
  const bytes = await readAll(incoming, maxBytes)
  if (bytes.length === 0) return undefined
  const type = incoming.headers['content-type'] ?? ''
  if (!/^application\/([\w.-]+\+)?json\s*(;|$)/i.test(type)) {
    throw new Failure('request.content_type', `The content type is "${type}". Send the header content-type: application/json.`)
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new Failure('request.invalid_json', `The body is not JSON: ${cause instanceof Error ? cause.message : 'it cannot be read'}.`, {
      cause,
    })
  }
}
