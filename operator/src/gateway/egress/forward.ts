// Passes requests of HTTP/1.1 on, and their answers back, byte for byte and as they come.
import http, { type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import { type Duplex, PassThrough } from 'node:stream'
import { Failure } from '@atoll/protocol'
import { endToEnd, pairsOf, valuesOf } from '../headers.ts'
import { join } from '../join.ts'

/** What goes out. */
export interface Outgoing {
  readonly agent: http.Agent
  /** For messages. */
  readonly name: string
  /** With its query. */
  readonly path: string
  /** Names and values, flat. */
  readonly headers: readonly string[]
}

/** Connections that `open` makes: one at a time, used again for as long as both sides like. */
export function agentOver(open: () => Promise<Duplex>): http.Agent {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  agent.createConnection = (_, callback) => {
    open().then(
      (socket) => callback?.(null, socket),
      // Nobody looks at the stream beside an error.
      (error: Error) => callback?.(error, new PassThrough()),
    )
    return undefined
  }
  return agent
}

const unreachable = (name: string, cause: unknown): Failure =>
  cause instanceof Failure ? cause : new Failure('upstream.unreachable', `${name} broke the connection before it answered.`, { cause })

function open(request: IncomingMessage, { agent, path, headers }: Outgoing): ClientRequest {
  return http.request({ agent, method: request.method ?? 'GET', path, headers, setDefaultHeaders: false, setHost: false })
}

/**
 * Resolves when the answer has been passed on or given up.
 * @throws Failure `upstream.unreachable`, and what the agent's connections fail with, while nothing was answered
 */
export function forwardRequest(request: IncomingMessage, response: ServerResponse, outgoing: Outgoing): Promise<void> {
  return new Promise((resolve, reject) => {
    const asked = open(request, outgoing)
    const ended = (): void => {
      asked.destroy()
      resolve()
    }
    response.once('close', ended)
    asked.on('error', (error) => {
      // A kept connection that the other side closed meanwhile: the sandbox does with it what it does with one of its own.
      if (response.headersSent || response.destroyed || asked.reusedSocket) return void response.destroy()
      response.off('close', ended)
      reject(unreachable(outgoing.name, error))
    })
    asked.on('continue', () => guarded(() => response.writeContinue(), [response]))
    asked.on('information', ({ statusCode }) => {
      if (statusCode === 102) guarded(() => response.writeProcessing(), [response])
    })
    asked.once('upgrade', (_, socket) => {
      socket.destroy()
      response.destroy()
    })
    asked.once('response', (answer) => guarded(() => passBack(answer, response), [answer, response]))
    request.once('aborted', () => asked.destroy())
    request.pipe(asked)
  })
}

/** What a server says may be nothing that Node would say: then both sides end, and not the operator. */
export function guarded(work: () => void, ends: readonly { destroy(): unknown }[]): void {
  try {
    work()
  } catch {
    for (const end of ends) end.destroy()
  }
}

function passBack(answer: IncomingMessage, response: ServerResponse): void {
  response.sendDate = false
  response.writeHead(answer.statusCode ?? 502, answer.statusMessage, endToEnd(answer.rawHeaders, ['transfer-encoding']))
  // Whoever waits for the first event of a stream knows that it has begun.
  response.flushHeaders()
  answer.once('error', () => response.destroy())
  answer.once('end', () => {
    if (Object.keys(answer.trailers).length > 0) guarded(() => response.addTrailers(pairsOf(answer.rawTrailers)), [response])
  })
  answer.pipe(response)
}

/** The same for a request to speak another protocol, as WebSockets. Resolves when the other side has agreed, or has answered otherwise. */
export function forwardUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, outgoing: Outgoing): Promise<void> {
  return new Promise((resolve, reject) => {
    const [protocol = ''] = valuesOf(request.rawHeaders, 'upgrade')
    const asked = open(request, { ...outgoing, headers: [...outgoing.headers, 'Connection', 'Upgrade', 'Upgrade', protocol] })
    const left = (): void => void asked.destroy()
    socket.once('close', left)
    asked.once('error', (error) => {
      socket.off('close', left)
      reject(unreachable(outgoing.name, error))
    })
    asked.once('upgrade', (answer, upstream, first) => {
      socket.off('close', left)
      socket.write(headOf(answer, answer.rawHeaders), 'latin1')
      if (first.length > 0) socket.write(first)
      if (head.length > 0) upstream.write(head)
      join(socket, upstream)
      resolve()
    })
    asked.once('response', (answer) => {
      socket.write(headOf(answer, [...endToEnd(answer.rawHeaders, ['transfer-encoding']), 'Connection', 'close']), 'latin1')
      answer.once('error', () => socket.destroy())
      answer.once('end', () => socket.end(() => socket.destroy()))
      answer.pipe(socket, { end: false })
      resolve()
    })
    asked.end()
  })
}

const headOf = ({ statusCode, statusMessage }: IncomingMessage, raw: readonly string[]): string => {
  const lines = pairsOf(raw).map(([name, value]) => `${name}: ${value}`)
  return `${[`HTTP/1.1 ${statusCode} ${statusMessage}`, ...lines].join('\r\n')}\r\n\r\n`
}
