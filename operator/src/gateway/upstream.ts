// Connections to providers, kept warm and shared by all sandboxes.
import { Agent, buildConnector, type Dispatcher } from 'undici'
import type { Target } from './addresses.ts'
import type { Dialer } from './dial.ts'

/** A model may think for long before it answers at all, and be silent for as long as it likes in the middle. */
const headersMs = 20 * 60_000
const keptMs = 60_000
/** To one provider, also those that it does not take up. */
const maxConnections = 512

export interface Upstream {
  /** HTTP/2 where the provider speaks it. */
  readonly calls: Dispatcher
  /** HTTP/1.1 only, as WebSockets want it. */
  readonly sockets: Dispatcher
  close(): Promise<void>
}

function agentOf(dialer: Dialer, allowH2: boolean): Agent {
  const secured = buildConnector({ allowH2 })
  const connect: buildConnector.connector = (options, callback) => {
    const isSecure = options.protocol === 'https:'
    const host = options.hostname.replace(/^\[|\]$/g, '')
    const target: Target = { host, port: Number(options.port) || (isSecure ? 443 : 80) }
    dialer.dial(target).then(
      (socket) => (isSecure ? secured({ ...options, httpSocket: socket }, callback) : callback(null, socket)),
      (error: Error) => callback(error, null),
    )
  }
  return new Agent({ connections: maxConnections, connect, headersTimeout: headersMs, bodyTimeout: 0, keepAliveTimeout: keptMs, allowH2 })
}

export function createUpstream(dialer: Dialer): Upstream {
  const calls = agentOf(dialer, true)
  const sockets = agentOf(dialer, false)
  return { calls, sockets, close: async () => void (await Promise.all([calls.destroy(), sockets.destroy()])) }
}
