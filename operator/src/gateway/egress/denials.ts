// What was not let through: told to the owner as an event, and to the sandbox as an answer.
import type { Duplex } from 'node:stream'
import { type EgressDenial, type EgressRule, egressDenials } from '@atoll/protocol'
import type { Caller } from '../caller.ts'
import type { DeniedEvents } from '../denied-events.ts'

export interface Denial {
  readonly denial: EgressDenial
  /** As it was asked for, where it could not be read. */
  readonly host: string
  readonly port?: number | undefined
  readonly method?: string | undefined
  readonly path?: string | undefined
  /** The rule that would have allowed it. */
  readonly allow?: EgressRule | undefined
}

const shownChars = 260

export class Denials {
  readonly #events: DeniedEvents

  constructor(events: DeniedEvents) {
    this.#events = events
  }

  tell({ sandboxId }: Caller, { denial, host, port, method, path, allow }: Denial): void {
    const [plainPath] = path?.split('?', 1) ?? []
    const what = { reason: denial, host: short(host), port, method: method && short(method), path: plainPath && short(plainPath) }
    this.#events.tell(sandboxId, 'egress.denied', what, allow && { allow })
  }

  forget(sandboxId: string): void {
    this.#events.forget(sandboxId)
  }
}

const short = (text: string): string => text.slice(0, shownChars)

/** A few lines for whoever reads what a program got. */
export function denialText({ denial, host, port, method, path, allow }: Denial): string {
  const asked = `${method ? `${short(method)} ` : ''}${short(host)}${port === undefined ? '' : `:${port}`}${path ? short(path) : ''}`
  const lines = [`The egress policy of this sandbox denies ${printable(asked)} (${denial}): ${egressDenials[denial]}`]
  if (allow) lines.push(`This rule would allow it: ${JSON.stringify(allow)}. The owner of the sandbox can add it.`)
  return `${lines.join('\n')}\n`
}

const printable = (text: string): string => text.replaceAll(/[^\x20-\x7e]/g, '?')

/** Some programs show of a refusal nothing but this. */
export const denialReason = 'Denied by the egress policy of this sandbox'

export const denialHeaders = (denial: EgressDenial, text: string): Record<string, string> => ({
  'content-type': 'text/plain; charset=utf-8',
  'content-length': String(Buffer.byteLength(text)),
  'x-atoll-denied': denial,
})

/** The answer on a bare connection, which ends with it. */
export function denyOn(socket: Duplex, denial: Denial): void {
  const text = denialText(denial)
  const headers = Object.entries({ ...denialHeaders(denial.denial, text), connection: 'close' }).map(([name, value]) => `${name}: ${value}`)
  socket.end(`${[`HTTP/1.1 403 ${denialReason}`, ...headers].join('\r\n')}\r\n\r\n${text}`, () => socket.destroy())
}
