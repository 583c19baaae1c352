// Refusals where there is no response object: upgrades, and what could not be read as a request at all.
import { STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { Failure } from '@atoll/protocol'
import type { Logger } from 'pino'
import { sendFailure } from './answers.ts'

/** Ends the connection with an answer. */
export function refuseUpgrade(client: Duplex, error: unknown, log: Logger): void {
  if (client.destroyed || !client.writable) return
  // Written through a stand-in for a response with the few calls that a refusal needs.
  const answer = {
    headersSent: false,
    destroy: () => client.destroy(),
    writeHead: (status: number, headers: Record<string, string>) => {
      const lines = Object.entries({ ...headers, connection: 'close' }).map(([name, value]) => `${name}: ${value}`)
      client.write(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Refused'}\r\n${lines.join('\r\n')}\r\n\r\n`)
    },
    end: (text: string) => client.end(text),
  }
  sendFailure(answer, error, log)
}

const unread: Readonly<Record<string, () => Failure>> = {
  HPE_HEADER_OVERFLOW: () => new Failure('request.too_large', 'The headers of a request may have at most 16 KiB.', { status: 431 }),
  ERR_HTTP_REQUEST_TIMEOUT: () => new Failure('request.timeout', 'The request did not arrive in time.'),
}

/** Answers what is no HTTP, or too much of it. A connection that broke, or is in the middle of another answer, gets none. */
export function refuseUnread(error: NodeJS.ErrnoException, client: Duplex, log: Logger): void {
  const isAnswering = '_httpMessage' in client && Boolean(client._httpMessage)
  if (error.code === 'ECONNRESET' || !client.writable || isAnswering) return void client.destroy()
  const make = unread[error.code ?? ''] ?? (() => new Failure('request.invalid', 'This is not an HTTP/1.1 request.'))
  refuseUpgrade(client, make(), log)
}
