// Follows a chat over its runs, from where a reader left on.
import type { AgentEvent, AgentRun, AgentSession, ChatPart } from '@atoll/protocol'
import {
  acceptedNotices,
  assistantMessageId,
  type ChatNotice,
  ChatParts,
  type ChatScope,
  endNotices,
  infoOf,
  partNotice,
  startedNotices,
} from './chat-view.ts'

/** What the stream needs of the sandbox and of the reader. */
export interface ChatSource {
  readonly scope: ChatScope
  session(): Promise<AgentSession>
  run(id: string): Promise<AgentRun>
  events(runId: string, cursor: number): AsyncIterable<AgentEvent>
  /** Until something may have begun in the session, or a moment has passed. */
  news(): Promise<void>
  isOpen(): boolean
  /** @param id where a reader that comes back goes on: `<run>:<seq>` */
  send(id: string, notice: ChatNotice): Promise<void>
}

/** A part that grows is sent at most so often, for each time it is sent whole. */
const partPauseMs = 40

export interface ChatPosition {
  readonly runId: string
  readonly seq: number
}

/** @throws nothing for a position that does not parse: it is none */
export function positionOf(text: string | undefined): ChatPosition | undefined {
  const [, runId, seq] = /^([\w-]{1,128}):(\d{1,12})$/.exec(text ?? '') ?? []
  return runId === undefined ? undefined : { runId, seq: Number(seq) }
}

/** Tells everything after the position; without one, from the beginning of the run that is under way. */
export async function followChat(source: ChatSource, from: ChatPosition | undefined): Promise<void> {
  const { run_ids: known, active_run_id: active } = await source.session()
  const first = from?.runId ?? active ?? undefined
  const at = first === undefined ? -1 : known.indexOf(first)
  const told = new Set(at === -1 ? known : known.slice(0, at))
  let cursor = at === -1 ? 0 : (from?.seq ?? 0)
  while (source.isOpen()) {
    const { run_ids: ids } = await source.session()
    const next = ids.find((id) => !told.has(id))
    if (next === undefined) {
      await source.news()
      continue
    }
    await tellRun(source, next, cursor)
    told.add(next)
    cursor = 0
  }
}

async function tellRun(source: ChatSource, runId: string, cursor: number): Promise<void> {
  const run = await source.run(runId)
  const teller = new Teller(source, run)
  if (cursor === 0) await teller.tell(0, acceptedNotices(run, source.scope))
  const parts = new ChatParts()
  // Parts are told whole, so events before the reader's place are needed too, though not told.
  for await (const event of source.events(runId, 0)) {
    if (!source.isOpen()) return
    if (event.type === 'gap') continue
    const part = parts.apply(event)
    if (event.seq > cursor) await teller.event(event, part)
  }
}

/** Tells one run. */
class Teller {
  readonly #source: ChatSource
  readonly #run: AgentRun
  readonly #pending = new Map<string, ChatPart>()
  #sentAt = 0

  constructor(source: ChatSource, run: AgentRun) {
    this.#source = source
    this.#run = run
  }

  async tell(seq: number, notices: readonly ChatNotice[]): Promise<void> {
    for (const notice of notices) await this.#source.send(`${this.#run.id}:${seq}`, notice)
  }

  async event(event: Exclude<AgentEvent, { type: 'gap' }>, part: ChatPart | undefined): Promise<void> {
    const { seq, at, type } = event
    if (type === 'run.started') await this.tell(seq, startedNotices(this.#run, this.#source.scope, at))
    if (part) this.#pending.set(part.id, part)
    if (!type.endsWith('.delta') || Date.now() - this.#sentAt >= partPauseMs) await this.#flush(seq)
    if (type === 'run.finished') await this.#end(seq, at)
  }

  async #flush(seq: number): Promise<void> {
    const due = [...this.#pending.values()]
    this.#pending.clear()
    this.#sentAt = Date.now()
    await this.tell(
      seq,
      due.map((part) => partNotice(this.#run, assistantMessageId(this.#run), part)),
    )
  }

  async #end(seq: number, at: number): Promise<void> {
    const ended = await this.#source.run(this.#run.id)
    const info = infoOf(ended, 'assistant', ended.started_at ?? at, { completed: at })
    await this.tell(seq, [{ event: 'message.updated', data: { info } }, ...endNotices(ended, this.#source.scope)])
  }
}
