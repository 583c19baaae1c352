import { routes, type TerminalEvent, type Terminal as TerminalInfo } from '@atoll/protocol'
import type { Connection } from './connection.ts'
import { follow } from './follow.ts'

export interface OpenTerminalOptions {
  /** Width in characters, 1…1000; 80 when not given. */
  readonly cols?: number | undefined
  /** Height in lines, 1…1000; 24 when not given. */
  readonly rows?: number | undefined
  /** Working directory; the workspace when not given. */
  readonly cwd?: string | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly title?: string | undefined
}

/** What a terminal shows. `exit` is the last; `gap` says that output was dropped before this reader got there. */
export type TerminalOutput =
  | { readonly type: 'output'; readonly text: string }
  | { readonly type: 'gap' }
  | { readonly type: 'exit'; readonly code: number | null; readonly signal: string | null }

export interface FollowTerminalOptions {
  readonly signal?: AbortSignal | undefined
  /** Milliseconds to go on without a connection; 60 000 when not given. */
  readonly patienceMs?: number | undefined
}

/** Well under what one call takes (102 400 bytes), whatever the characters are. */
const inputPieceLength = 16_384

/** A shell on a real terminal in a sandbox. It lives on when its viewers leave, until its shell ends or it is closed. */
export class Terminal {
  readonly id: string
  readonly info: TerminalInfo
  readonly #connection: Connection
  readonly #params: { readonly id: string; readonly sid: string }
  #unsent = ''
  #sending: Promise<void> | undefined

  constructor(connection: Connection, sandboxId: string, info: TerminalInfo) {
    this.id = info.session_id
    this.info = info
    this.#connection = connection
    this.#params = { id: sandboxId, sid: info.session_id }
  }

  /**
   * What it shows: first the kept scrollback, then live, until it ends. Connections that break are made anew without loss or repetition.
   * @throws Failure `terminal.not_found`; ConnectionFailure when the operator stays away
   */
  async *output(options: FollowTerminalOptions = {}): AsyncGenerator<TerminalOutput> {
    const isLast = (event: TerminalEvent): boolean => event.type === 'exit'
    const events = follow(this.#connection, routes.terminals.stream, { params: this.#params }, { ...options, isLast })
    for await (const { event } of events) yield shown(event)
  }

  /** Types into it. What is typed while an earlier call is under way goes out together, in order. @throws Failure `terminal.ended` */
  write(text: string): Promise<void> {
    this.#unsent += text
    this.#sending ??= this.#send().finally(() => {
      this.#sending = undefined
    })
    return this.#sending
  }

  /** Tells programs in it the new size, in characters and lines. */
  async resize(cols: number, rows: number): Promise<void> {
    await this.#connection.call(routes.terminals.resize, { params: this.#params, body: { cols, rows } }, { isRepeatable: true })
  }

  /** Ends it and its shell. Safe to repeat. */
  async close(): Promise<void> {
    await this.#connection.call(routes.terminals.close, { params: this.#params })
  }

  async #send(): Promise<void> {
    while (this.#unsent !== '') {
      const end = pieceEnd(this.#unsent)
      const data = this.#unsent.slice(0, end)
      this.#unsent = this.#unsent.slice(end)
      await this.#connection.call(routes.terminals.input, { params: this.#params, body: { data } })
    }
  }
}

/** Never between the two halves of a character. */
function pieceEnd(text: string): number {
  if (text.length <= inputPieceLength) return text.length
  const last = text.charCodeAt(inputPieceLength - 1)
  return last >= 0xd800 && last <= 0xdbff ? inputPieceLength - 1 : inputPieceLength
}

function shown(event: TerminalEvent): TerminalOutput {
  if (event.type === 'data.stdout') return { type: 'output', text: event.properties.text }
  return event.type === 'gap' ? { type: 'gap' } : event
}

export class Terminals {
  readonly #connection: Connection
  readonly #id: string

  constructor(connection: Connection, sandboxId: string) {
    this.#connection = connection
    this.#id = sandboxId
  }

  /** Opens a terminal with an interactive shell. @throws Failure `terminal.too_many` */
  async open({ env, ...options }: OpenTerminalOptions = {}): Promise<Terminal> {
    const given = Object.entries(options).filter(([, value]) => value !== undefined)
    const body = { ...Object.fromEntries(given), ...(env && { env_json: { ...env } }) }
    return this.#terminal(await this.#connection.call(routes.terminals.open, { params: { id: this.#id }, body }))
  }

  async list(): Promise<Terminal[]> {
    const { sessions } = await this.#connection.call(routes.terminals.list, { params: { id: this.#id } })
    return sessions.map((info) => this.#terminal(info))
  }

  /** A terminal that is open already. Its first `output` replays the scrollback. */
  attach(info: TerminalInfo): Terminal {
    return this.#terminal(info)
  }

  #terminal(info: TerminalInfo): Terminal {
    return new Terminal(this.#connection, this.#id, info)
  }
}
