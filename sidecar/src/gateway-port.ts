// The sandbox's way out: a port of its loopback that leads to the operator's gateway. Nothing is read on the way.
import net, { type Socket } from 'node:net'
import { describe, type Log } from './log.ts'
import { join } from './ports.ts'

/** Each takes two descriptors; the gateway has limits of its own. */
const maxConnections = 512

const absent = JSON.stringify({
  error: 'The operator does not answer. Try again in a moment.',
  code: 'gateway.unavailable',
  retry_after_ms: 1000,
})
const absentAnswer = [
  'HTTP/1.1 503 Service Unavailable',
  'content-type: application/json',
  `content-length: ${Buffer.byteLength(absent)}`,
  'retry-after: 1',
  'connection: close',
  '',
  absent,
].join('\r\n')

/** The operator is being restarted, or has no gateway: said when the caller has asked, since some read no answer before. */
function sayAbsent(socket: Socket): void {
  socket.once('data', () => socket.end(absentAnswer, () => socket.destroySoon()))
  socket.on('end', () => socket.destroy())
  socket.resume()
}

function relay(socket: Socket, gateway: string): void {
  socket.on('error', () => socket.destroy())
  const operator = net.connect({ path: gateway, allowHalfOpen: true })
  operator.once('connect', () => {
    operator.off('error', failed)
    join(socket, operator)
  })
  const failed = (): void => (socket.destroyed ? undefined : sayAbsent(socket))
  operator.once('error', failed)
}

export interface GatewayPort {
  readonly port: number
  close(): void
}

/** Undefined when somebody has the port, without which the sandbox works all the same. */
export function openGatewayPort(at: { readonly port: number; readonly gateway: string }, log: Log): Promise<GatewayPort | undefined> {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => relay(socket, at.gateway))
  server.maxConnections = maxConnections
  return new Promise((resolve) => {
    server.once('error', (error) => {
      log('warn', `port ${at.port} of loopback cannot be had for the gateway`, describe(error))
      resolve(undefined)
    })
    server.listen(at.port, '127.0.0.1', () => {
      const address = server.address()
      resolve({ port: typeof address === 'object' && address ? address.port : at.port, close: () => void server.close() })
    })
  })
}
