// One sandbox's socket to the gateway: an HTTP server that trusts nothing that comes in.
import { rmSync } from 'node:fs'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { Failure } from '@atoll/protocol'
import { refuse, refuseSocket } from './refusal.ts'

/** What is behind a door. Whoever takes a request answers it, whatever happens. */
export interface Behind {
  request(request: IncomingMessage, response: ServerResponse): void
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void
  connect(request: IncomingMessage, socket: Duplex, head: Buffer): void
}

/** What one sandbox may take of the operator. */
const limits = {
  connections: 512,
  headerBytes: 64 * 1024,
  headerCount: 200,
  /** For a request's headers. Bodies and answers may take as long as they like, as streams do. */
  headersMs: 15_000,
  checkMs: 2000,
  keepAliveMs: 75_000,
} as const

/** Which of the parser's complaints are not plainly bad requests. */
const parserFailures: Readonly<Record<string, Failure>> = {
  HPE_HEADER_OVERFLOW: new Failure('request.too_large', `The headers of a request may have ${limits.headerBytes} bytes.`, { status: 431 }),
  ERR_HTTP_REQUEST_TIMEOUT: new Failure('request.timeout', `The headers of a request must be there within ${limits.headersMs / 1000} s.`),
}
const malformed = new Failure('request.invalid', 'This is not a well-formed HTTP/1.1 request.')

function serverOf(behind: Behind): http.Server {
  const options = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.headersMs,
    connectionsCheckingInterval: limits.checkMs,
    requestTimeout: 0,
    keepAliveTimeout: limits.keepAliveMs,
  }
  const server = http.createServer(options, (request, response) => {
    response.sendDate = false
    behind.request(request, response)
  })
  server.maxConnections = limits.connections
  server.maxHeadersCount = limits.headerCount
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => behind.upgrade(request, quiet(socket), head))
  server.on('connect', (request: IncomingMessage, socket: Duplex, head: Buffer) => behind.connect(request, quiet(socket), head))
  const refused = new WeakSet<Duplex>()
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    // The parser complains again of all that comes after, which the answer must outlive.
    if (refused.has(socket) && error.code !== 'ECONNRESET') return
    refused.add(socket)
    if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
    refuseSocket(socket, parserFailures[error.code ?? ''] ?? malformed)
  })
  // A request that waits for leave to send its body is refused, if at all, before it sends it.
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => server.emit('request', request, response))
  server.on('checkExpectation', (_: IncomingMessage, response: ServerResponse) =>
    refuse(response, new Failure('request.invalid', 'Only 100-continue can be expected.', { status: 417 })),
  )
  return server
}

const quiet = (socket: Duplex): Duplex => socket.on('error', () => socket.destroy())

/**
 * Makes the socket with the mode that lets the sidecar connect, whichever user of the host it is: its directory is closed to everybody
 * else. A mode that is set afterwards, by name, could be set on whatever the sandbox has put there meanwhile.
 */
function listen(server: http.Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    const usual = process.umask(0)
    try {
      rmSync(socketPath, { force: true })
      server.listen(socketPath, resolve)
    } finally {
      process.umask(usual)
    }
  })
}

export interface Door {
  readonly socketPath: string
  /** Ends what is under way. */
  close(): void
}

export async function openDoor(socketPath: string, behind: Behind): Promise<Door> {
  const server = serverOf(behind)
  const open = new Set<Duplex>()
  server.on('connection', (socket: Duplex) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
  })
  await listen(server, socketPath)
  return {
    socketPath,
    close: () => {
      server.close()
      for (const socket of open) socket.destroy()
    },
  }
}
