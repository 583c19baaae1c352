// The sidecar's HTTP server on the guest channel.
import { chmodSync, renameSync, rmSync } from 'node:fs'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Failure } from '@atoll/protocol'
import { describe, type Log } from './log.ts'
import { type Call, createRouter, type Routes } from './router.ts'

const maxJsonBytes = 16 * 1024 * 1024
/** The operator keeps its connections warm, and closes them before this. */
const keepAliveMs = 10 * 60_000

/** The body of a request. Who leaves it early leaves the connection usable, which a destroyed request would not be. */
export const bodyOf = (request: IncomingMessage): AsyncIterable<Buffer> => request.iterator({ destroyOnReturn: false })

/** Listens itself: every call waits for this, and an iterator takes several turns more. */
function readJson(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  return new Promise((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= maxJsonBytes) chunks.push(chunk)
      else reject(new Failure('request.too_large', `A JSON body may have ${maxJsonBytes} bytes.`))
    })
    request.once('end', () => resolve((chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)).toString('utf8') || '{}'))
    request.once('error', reject)
  })
}

async function parseJson<Body>(request: IncomingMessage): Promise<Body> {
  const text = await readJson(request)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new Failure('request.invalid_json', 'The body is not JSON.', { cause })
  }
}

/** Aborted when the response is closed before it was finished. Most handlers never ask, so it is made when they do. */
function departure(response: ServerResponse): AbortSignal {
  const controller = new AbortController()
  if (response.destroyed) controller.abort()
  else response.once('close', () => response.writableFinished || controller.abort())
  return controller.signal
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value))
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': body.length })
  response.end(body)
}

/** What a caller may see of anything thrown. */
export function refusalOf(thrown: unknown, log: Log, subject: string): Failure {
  if (thrown instanceof Failure) {
    if (thrown.status === 503 && thrown.cause) log('warn', `${subject}: ${thrown.message}`, describe(thrown.cause))
    return thrown
  }
  log('error', `${subject} failed`, describe(thrown))
  return new Failure('internal', 'The sidecar failed unexpectedly; its log has the reason.', { cause: thrown })
}

function sendFailure(response: ServerResponse, failure: Failure): void {
  // Half an answer must not look like a whole one.
  if (response.headersSent || response.destroyed) response.destroy()
  else sendJson(response, failure.status, failure)
}

function splitTarget(target: string): { path: string; query: string } {
  const mark = target.indexOf('?')
  return mark === -1 ? { path: target, query: '' } : { path: target.slice(0, mark), query: target.slice(mark + 1) }
}

export interface Upgrade {
  readonly request: IncomingMessage
  readonly socket: Socket
  /** What the caller sent behind its request already. */
  readonly head: Buffer
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
}

/** Serves what leaves HTTP: raw connections and WebSockets. It answers on the socket itself. */
export type UpgradeHandler = (upgrade: Upgrade) => Promise<void>

function refuseUpgrade(socket: Socket, failure: Failure): void {
  const body = JSON.stringify(failure)
  const head = `HTTP/1.1 ${failure.status} ${http.STATUS_CODES[failure.status] ?? 'Error'}`
  socket.end(
    `${head}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    () => socket.destroySoon(),
  )
}

export interface Serving {
  readonly routes: Routes
  readonly upgrades: Readonly<Record<string, UpgradeHandler>>
  readonly log: Log
}

export function createServer({ routes, upgrades, log }: Serving): http.Server {
  const match = createRouter(routes)
  const matchUpgrade = createRouter(upgrades)
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { path, query } = splitTarget(request.url ?? '/')
    try {
      const { handler, params } = match(request.method ?? 'GET', path)
      let signal: AbortSignal | undefined
      const call: Call = {
        request,
        response,
        params,
        query: new URLSearchParams(query),
        get signal() {
          signal ??= departure(response)
          return signal
        },
        json: () => parseJson(request),
      }
      const value = await handler(call)
      if (value !== undefined) sendJson(response, 200, value)
    } catch (thrown) {
      sendFailure(response, refusalOf(thrown, log, `${request.method} ${path}`))
      // What is left of a body that was refused half-way would hold up the connection for the next call.
      request.resume()
    }
  }
  const serveUpgrade = async ({ request, socket, head }: Pick<Upgrade, 'request' | 'socket' | 'head'>): Promise<void> => {
    const { path, query } = splitTarget(request.url ?? '/')
    const { handler, params } = matchUpgrade(request.method ?? 'GET', path)
    await handler({ request, socket, head, params, query: new URLSearchParams(query) })
  }
  // Streams last for days, so no request has a time limit as a whole.
  const server = http.createServer({ requestTimeout: 0, headersTimeout: 60_000, keepAliveTimeout: keepAliveMs }, (request, response) => {
    response.sendDate = false
    void answer(request, response)
  })
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on('error', () => socket.destroy())
    serveUpgrade({ request, socket, head }).catch((thrown: unknown) =>
      refuseUpgrade(socket, refusalOf(thrown, log, `upgrade of ${request.url}`)),
    )
  })
  return server
}

/**
 * Listens on the socket; one that an earlier sidecar left behind is replaced. It gets its name when it takes connections already: between
 * the making of a socket and that, whoever has seen its name is refused.
 */
export function listen(server: http.Server, socketPath: string, mode: number): Promise<void> {
  const draft = `${socketPath}~`
  for (const left of [draft, socketPath]) rmSync(left, { force: true })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(draft, () => {
      server.off('error', reject)
      chmodSync(draft, mode)
      renameSync(draft, socketPath)
      // Node would remove it by the name that it had.
      process.once('exit', () => {
        try {
          rmSync(socketPath, { force: true })
        } catch {
          // Who has given up the right to do so leaves it to whoever looks after the folder.
        }
      })
      resolve()
    })
  })
}
