// A model server that plays the script in the prompt, in four protocols. It stands in for a provider: no key, no network, no cost.
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import zlib from 'node:zlib'
import { anthropic } from './anthropic.ts'
import { chat } from './chat.ts'
import type { Protocol } from './conversation.ts'
import { gemini } from './gemini.ts'
import { type Json, record, text } from './json.ts'
import { play, sendJson } from './play.ts'
import { type Decision, decide } from './reply.ts'
import { responses } from './responses.ts'
import { type RequestKind, type SeenRequest, seenRequest } from './seen-request.ts'

export type { SeenRequest } from './seen-request.ts'

export interface ScriptedModel extends AsyncDisposable {
  /** Without a path; clients of the OpenAI protocols want `${url}/v1`. */
  readonly url: string
  readonly requests: readonly SeenRequest[]
  close(): Promise<void>
}

const writers = { anthropic, responses, chat, gemini }
const decompressors: Readonly<Record<string, (input: Buffer) => Buffer>> = {
  gzip: zlib.gunzipSync,
  deflate: zlib.inflateSync,
  br: zlib.brotliDecompressSync,
  zstd: zlib.zstdDecompressSync,
}

interface Route {
  readonly kind: RequestKind
  /** Where the path names it. */
  readonly model?: string | undefined
  readonly isStream?: boolean
}

const posts: readonly (readonly [RegExp, RequestKind])[] = [
  [/\/messages\/count_tokens$|:countTokens$/, 'count_tokens'],
  [/\/messages$/, 'anthropic'],
  [/\/responses$/, 'responses'],
  [/\/chat\/completions$/, 'chat'],
]

function routeOf(method: string, pathname: string): Route {
  if (method === 'GET' || method === 'HEAD') {
    if (/\/models(\/[^/]+)?$/.test(pathname)) return { kind: 'models' }
    return { kind: /^\/(api\/hello|healthz)?$/.test(pathname) ? 'greeting' : 'unknown' }
  }
  const generate = /\/models\/(?<model>[^:/]+):(?<verb>generateContent|streamGenerateContent)$/.exec(pathname)?.groups
  if (generate) return { kind: 'gemini', model: generate['model'], isStream: generate['verb'] === 'streamGenerateContent' }
  return { kind: posts.find(([pattern]) => pattern.test(pathname))?.[1] ?? 'unknown' }
}

async function readBody(request: IncomingMessage): Promise<Json | undefined> {
  const raw = await buffer(request)
  try {
    const decompress = decompressors[request.headers['content-encoding'] ?? '']
    return record(JSON.parse((decompress ? decompress(raw) : raw).toString()))
  } catch {
    return undefined
  }
}

/** Answers what was asked so far, for those who are not in the same program. */
const requestsPath = '/scripted/requests'

const isProtocol = (kind: RequestKind): kind is Protocol => kind in writers

const modelList = {
  object: 'list',
  data: [
    { id: 'scripted', object: 'model', type: 'model', created: 1, owned_by: 'scripted', display_name: 'scripted', context_length: 200_000 },
  ],
  has_more: false,
  models: [{ name: 'models/scripted', supportedGenerationMethods: ['generateContent'] }],
}

/** Answers of a fixed form. */
function answerPlainly(response: ServerResponse, kind: RequestKind, what: string): void {
  if (kind === 'count_tokens') sendJson(response, 200, { input_tokens: 1200, totalTokens: 1200 })
  else if (kind === 'models') sendJson(response, 200, modelList)
  else if (kind === 'greeting') sendJson(response, 200, { ok: true })
  else sendJson(response, 404, { error: { type: 'not_found', message: `There is no ${what}.` } })
}

function described({ script, reply, tools, hasFound }: Decision): Partial<SeenRequest> {
  const { action } = reply
  return {
    prompt: script.prompt,
    step: script.step,
    position: script.position,
    ...(hasFound !== undefined && { hasFound }),
    tools: tools.map(({ name, namespace }) => (namespace ? `${namespace}/${name}` : name)),
    ...(action.type === 'call' ? { call: { name: action.call.tool.name, arguments: action.call.value } } : {}),
    ...('ending' in action && action.ending === 'complete' ? { usage: reply.usage } : {}),
  }
}

class Server {
  readonly requests: SeenRequest[] = []
  #count = 0
  readonly #http = http.createServer((request, response) => {
    this.#answer(request, response).catch(() => response.destroy())
  })

  constructor() {
    this.#http.on('upgrade', (request, socket) => {
      this.requests.push({ ...seenRequest(request, this.#urlOf(request), ++this.#count), kind: 'upgrade', status: 404, isOver: true })
      socket.on('error', () => socket.destroy())
      socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n')
    })
  }

  async listen(port: number, host: string): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.#http.once('error', reject)
      this.#http.listen(port, host, resolve)
    })
    const { address, family, port: bound } = this.#http.address() as AddressInfo
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#http.close(() => resolve())
      this.#http.closeAllConnections()
    })
  }

  #urlOf({ url }: IncomingMessage): URL {
    return new URL(url ?? '/', 'http://scripted')
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = this.#urlOf(request)
    if (url.pathname === requestsPath) return sendJson(response, 200, this.requests)
    const { kind, ...route } = routeOf(request.method ?? 'GET', url.pathname)
    const arrived = seenRequest(request, url, ++this.#count)
    const body = await readBody(request)
    const model = route.model ?? text(body?.['model'])
    const isStream = route.isStream ?? body?.['stream'] === true
    const decision = isProtocol(kind) && body ? decide(kind, body, model) : undefined
    const seen: SeenRequest = { ...arrived, kind, ...(decision ? { model, isStream, ...described(decision) } : {}) }
    this.requests.push(seen)
    this.#follow(seen, response)
    if (!isProtocol(kind)) answerPlainly(response, kind, `${arrived.method} ${url.pathname}`)
    else if (!decision) sendJson(response, 400, writers[kind].failure(400, 'The body is not JSON.'))
    else await play({ response, reply: decision.reply, writer: writers[kind], isStream })
  }

  #follow(seen: SeenRequest, response: ServerResponse): void {
    response.on('close', () => {
      if (response.headersSent) seen.status = response.statusCode
      seen.closedEarly = !response.writableFinished
      seen.isOver = true
    })
  }
}

/** Port 0, the default, takes any that is free. */
export async function startScriptedModel({ port = 0, host = '127.0.0.1' } = {}): Promise<ScriptedModel> {
  const server = new Server()
  const url = await server.listen(port, host)
  const close = (): Promise<void> => server.close()
  return { url, requests: server.requests, close, [Symbol.asyncDispose]: close }
}
