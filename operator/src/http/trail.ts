// What the audit log is told of each request: one place for all of them, where it is known who asked for what, and what became of it.
import type { IncomingMessage } from 'node:http'
import { type AuditAction, type AuditDetail, type AuditEntry, type Route, toFailure } from '@atoll/protocol'
import type { Logger } from 'pino'
import type { Audit } from '../audit/audit.ts'
import type { Caller } from '../auth/caller.ts'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'

/** What a handler knows and the request does not say. */
export interface Note {
  readonly subject?: string
  /** Whose subject it is. */
  readonly owner?: string
  /** Who asked, where the request makes somebody known. */
  readonly actor?: AuditEntry['actor']
  readonly detail?: AuditDetail
}

export interface TrailParts {
  readonly audit: Pick<Audit, 'record'>
  readonly clientOf: (incoming: IncomingMessage) => string
  readonly log: Logger
}

export type TrailedRoute = Pick<Route, 'audit'> & { readonly method: string; readonly path: string }

/** Refusals that are told of every route: whoever got them asked for what is not theirs, or not as who they are. */
const denials: ReadonlySet<string> = new Set([
  'auth.missing',
  'auth.invalid',
  'auth.forbidden',
  'request.rate_limited',
  'request.host_refused',
  'sandbox.not_found',
  'service.not_found',
  'snapshot.not_found',
  'key.not_found',
  'port.token_invalid',
])
const sandboxId = /^sandbox-[0-9a-f-]{36}$/
const nobody: AuditEntry['actor'] = { owner: '', via: 'none', id: '' }
/** Of a list; who changes much at once does not fill the log. */
const maxListChars = 4096

export class Trail {
  readonly #parts: TrailParts

  constructor(parts: TrailParts) {
    this.#parts = parts
  }

  /** Begins with a request. */
  of(route: TrailedRoute, incoming: IncomingMessage): Trace {
    return new Trace(this.#parts, route, incoming)
  }
}

export class Trace {
  readonly #parts: TrailParts
  readonly #route: TrailedRoute
  readonly #client: string
  #actor = nobody
  #subject = ''
  #owner = ''
  #detail: AuditDetail = {}
  #isTold = false

  constructor(parts: TrailParts, route: TrailedRoute, incoming: IncomingMessage) {
    this.#parts = parts
    this.#route = route
    this.#client = parts.clientOf(incoming)
  }

  isBy({ owner, via, id }: Pick<Caller, 'owner' | 'via' | 'id'>): void {
    this.#actor = { owner, via: via === 'key' ? 'api_key' : via, id }
    if (this.#owner === '') this.#owner = owner
  }

  isAbout({ id, owner }: Pick<SandboxRecord, 'id' | 'owner'>): void {
    this.#subject = id
    this.#owner = owner
  }

  readonly note = ({ subject, owner, actor, detail }: Note): void => {
    if (subject !== undefined) this.#subject = subject
    if (actor) this.#actor = actor
    this.#owner = owner ?? (actor && this.#owner === '' ? actor.owner : this.#owner)
    if (detail) this.#detail = { ...this.#detail, ...shortened(detail) }
  }

  /**
   * It was done.
   * @param params of the path; what was done has only such as exist
   * @throws Failure `store.unavailable` when a change cannot be written down
   */
  async done(params: Readonly<Record<string, string>> = {}): Promise<void> {
    if (this.#isTold || this.#route.audit === undefined) return
    this.#isTold = true
    const { id: _, ...rest } = params
    await this.#record(this.#route.audit, 'ok', { ...shortened(rest), ...this.#detail })
  }

  /**
   * It was refused, or failed.
   * @param asked id of the sandbox as it stood in the path
   */
  failed(thrown: unknown, asked?: string): void {
    if (this.#isTold) return
    this.#isTold = true
    const { code } = toFailure(thrown)
    if (asked !== undefined && this.#subject === '' && sandboxId.test(asked)) this.#subject = asked
    // Who is nobody has asked for nothing in particular, but to come in.
    const isStranger = this.#actor.via === 'none' && this.#route.audit !== 'auth.sign_in'
    const action = isStranger ? 'access.denied' : (this.#route.audit ?? 'access.denied')
    if (action === 'access.denied' && !denials.has(code)) return
    const detail = { ...this.#detail, ...(action === 'access.denied' && { route: `${this.#route.method} ${this.#route.path}` }) }
    this.#record(action, code, detail).catch((error: unknown) => {
      this.#parts.log.error({ err: error, action }, 'a refusal could not be written to the audit log')
    })
  }

  #record(action: AuditAction, outcome: string, detail: AuditDetail): Promise<void> {
    const { audit } = this.#parts
    return audit.record({ actor: this.#actor, action, subject: this.#subject, owner: this.#owner, outcome, client: this.#client, detail })
  }
}

const short = (text: string): string => text.toWellFormed().slice(0, 200)

function shortened(detail: AuditDetail): AuditDetail {
  const kept: AuditDetail = {}
  for (const [name, value] of Object.entries(detail)) {
    if (!Array.isArray(value)) kept[name] = typeof value === 'string' ? short(value) : value
    else {
      const texts = fitting(value)
      kept[name] = texts
      if (texts.length < value.length) kept[`${name}_left_out`] = value.length - texts.length
    }
  }
  return kept
}

function fitting(texts: readonly string[]): string[] {
  let room = maxListChars
  return texts.map(short).filter((text) => {
    room -= text.length
    return room >= 0
  })
}
