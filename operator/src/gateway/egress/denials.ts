// What was not let through: told to the owner as an event, and to the sandbox as an answer.
import type { Duplex } from 'node:stream'
import { type EgressDenial, type EgressRule, egressDenials } from '@atoll/protocol'
import type { Logger } from 'pino'
import type { Caller } from '../caller.ts'
import type { EgressStore } from './store.ts'

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

export interface DenialsParts {
  readonly store: Pick<EgressStore, 'appendEvent'>
  readonly now: () => number
  readonly log: Logger
}

/** Events that a sandbox may cause at once, and how fast it may cause more. */
const burst = 200
const perMinute = 10
/** For so long the same denial is counted, and not told again. */
const sameMs = 60_000
const maxRemembered = 1000
const shownChars = 260

interface Told {
  at: number
  /** The same ones since. */
  more: number
}

interface Book {
  credit: number
  at: number
  /** Denials of which nothing was told at all. */
  untold: number
  readonly told: Map<string, Told>
}

export class Denials {
  readonly #parts: DenialsParts
  readonly #books = new Map<string, Book>()

  constructor(parts: DenialsParts) {
    this.#parts = parts
  }

  /** Writes the event, unless the sandbox causes so many that they would fill the store. */
  tell({ sandboxId }: Caller, { denial, host, port, method, path, allow }: Denial): void {
    const [plainPath] = path?.split('?', 1) ?? []
    const what = { reason: denial, host: short(host), port, method: method && short(method), path: plainPath && short(plainPath) }
    const book = this.#bookOf(sandboxId)
    const key = JSON.stringify(what)
    const before = book.told.get(key)
    if (before && this.#parts.now() - before.at < sameMs) return void before.more++
    if (book.credit < 1) return void book.untold++
    book.credit -= 1
    const data = {
      ...what,
      ...(allow && { allow }),
      ...(before && before.more > 0 && { repeated: before.more }),
      ...(book.untold > 0 && { untold: book.untold }),
    }
    book.untold = 0
    if (book.told.size >= maxRemembered) book.told.clear()
    book.told.set(key, { at: this.#parts.now(), more: 0 })
    this.#parts.store.appendEvent({ type: 'egress.denied', sandboxId, data }).catch((error: unknown) => {
      this.#parts.log.error({ sandboxId, err: error }, 'a denied connection could not be written down')
    })
  }

  forget(sandboxId: string): void {
    this.#books.delete(sandboxId)
  }

  #bookOf(sandboxId: string): Book {
    const now = this.#parts.now()
    const book = this.#books.get(sandboxId) ?? { credit: burst, at: now, untold: 0, told: new Map<string, Told>() }
    book.credit = Math.min(burst, book.credit + ((now - book.at) / 60_000) * perMinute)
    book.at = now
    this.#books.set(sandboxId, book)
    return book
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
