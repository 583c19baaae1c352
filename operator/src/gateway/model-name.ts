// Which model a call is for, where that decides whether it is made.
import type { IncomingMessage } from 'node:http'
import { Failure } from '@atoll/protocol'

const maxBody = 32 * 1024 * 1024

/** Of one sandbox, and how long one body may take. */
const maxHeld = 96 * 1024 * 1024
const bodyMs = 60_000
const held = new Map<string, number>()

function hold(sandboxId: string, bytes: number): void {
  const sum = (held.get(sandboxId) ?? 0) + bytes
  if (sum > 0) held.set(sandboxId, sum)
  else held.delete(sandboxId)
}

async function readAll(request: IncomingMessage, sandboxId: string): Promise<Buffer> {
  const late = setTimeout(() => request.destroy(new Error('the body took too long')), bodyMs)
  let size = 0
  try {
    return await collect(request, (bytes) => {
      size += bytes
      hold(sandboxId, bytes)
      if ((held.get(sandboxId) ?? 0) > maxHeld) {
        throw new Failure('request.busy', 'The sandbox sends too many large model calls at once. Try again in a moment.', {
          retryAfterMs: 1000,
        })
      }
    })
  } finally {
    clearTimeout(late)
    hold(sandboxId, -size)
  }
}

async function collect(request: IncomingMessage, count: (bytes: number) => void): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    size += chunk.length
    count(chunk.length)
    if (size > maxBody)
      throw new Failure('request.too_large', `A model call may have ${maxBody / 1024 / 1024} MiB where its model is checked.`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** The names at the top of a JSON object in the order of its text, repeated ones too. The text is known to be JSON. */
function topNames(text: string): string[] {
  const names: string[] = []
  let depth = 0
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"\s*:?|[{}[\]]/gs)) {
    if (token === '{' || token === '[') depth += 1
    else if (token === '}' || token === ']') depth -= 1
    else if (depth === 1 && token.endsWith(':')) names.push(JSON.parse(token.slice(0, -1).trimEnd()))
  }
  return names
}

/** Google's calls name their model in the path, as do some of others. */
const inPath = /\/models\/([^/:]+)/

/**
 * Reads a call's whole body for the model in it. A body that says two models, of which a provider might read the other one, is refused.
 * @throws Failure `request.invalid`, `request.too_large`
 */
export async function bodyWithModel(
  request: IncomingMessage,
  { path, sandboxId }: { readonly path: string; readonly sandboxId: string },
): Promise<{ body: Buffer | null; model: string }> {
  const bytes = await readAll(request, sandboxId)
  const body = bytes.length === 0 ? null : bytes
  const named = inPath.exec(path)?.[1]
  if (named !== undefined) return { body, model: named }
  if (request.headers['content-encoding'] !== undefined) throw invalid('must not be compressed')
  let document: unknown
  try {
    document = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    throw invalid('must be JSON')
  }
  if (document === null || typeof document !== 'object' || Array.isArray(document)) throw invalid('must be a JSON object')
  assertOneModel(document, bytes.toString('utf8'))
  const model: unknown = Reflect.get(document, 'model')
  return { body, model: typeof model === 'string' ? model : '' }
}

/** No other models to fall back on, and no answer that is fetched later, when nobody counts it. @throws Failure `request.invalid` */
function assertOneModel(document: object, text: string): void {
  const names = topNames(text).map((name) => name.toLowerCase())
  if (names.filter((name) => name === 'model').length > 1) throw invalid('must name one model')
  if (names.some((name) => ['models', 'route', 'fallbacks'].includes(name))) throw invalid('must name one model, and none to fall back on')
  if (Reflect.get(document, 'background') === true) throw invalid('must not ask for an answer in the background')
}

const invalid = (why: string): Failure =>
  new Failure('request.invalid', `The body of a model call ${why}, since this service allows some models only, or limits tokens or spend.`)
