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
  /** All of the run from the cursor on, to its end; less while the sandbox is stopped, in which nothing comes. */
  events(runId: string, cursor: number): AsyncIterable<AgentEvent>
  /** Until something may have begun in the session, a moment has passed, or `wake` is called. */
  news(): Promise<void>
  wake(): void
  isOpen(): boolean
  /** @param id where a reader that comes back goes on: `<run>:<seq>`; undefined: where it would have gone on before */
  send(id: string | undefined, notice: ChatNotice): Promise<void>
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
  const waiting = new Waiting(source, told)
  let cursor = at === -1 ? nothing : (from?.seq ?? nothing)
  while (source.isOpen()) {
    const { run_ids: ids } = await source.session()
    const next = ids.find((id) => !told.has(id))
    if (next === undefined) {
      await source.news()
      continue
    }
    told.add(next)
    if (waiting.wasTold(next)) cursor = Math.max(cursor, 0)
    const end = await waiting.tellWhile(tellRun(source, next, cursor))
    cursor = end.isOver ? nothing : end.seq
    if (end.isOver || !source.isOpen()) continue
    told.delete(next)
    await source.news()
  }
}

/** The place of a reader that does not know that there is such a run. */
const nothing = -1

/** What is accepted while an earlier run is under way. It is told at once, and again to a reader that comes back meanwhile. */
class Waiting {
  readonly #source: ChatSource
  readonly #others: ReadonlySet<string>
  readonly #told = new Set<string>()

  constructor(source: ChatSource, others: ReadonlySet<string>) {
    this.#source = source
    this.#others = others
  }

  wasTold(runId: string): boolean {
    return this.#told.has(runId)
  }

  async tellWhile<End>(telling: Promise<End>): Promise<End> {
    const over = new AbortController()
    const ended = telling.finally(() => {
      over.abort()
      this.#source.wake()
    })
    // What fails here fails for the run that is told, too.
    const [end] = await Promise.all([ended, this.#tellUntil(over.signal).catch(() => undefined)])
    return end
  }

  async #tellUntil(over: AbortSignal): Promise<void> {
    while (!over.aborted && this.#source.isOpen()) {
      await this.#source.news()
      if (over.aborted || !this.#source.isOpen()) return
      const { run_ids: ids } = await this.#source.session()
      for (const id of ids.filter((one) => !this.#others.has(one) && !this.#told.has(one))) {
        this.#told.add(id)
        for (const notice of acceptedNotices(await this.#source.run(id), this.#source.scope)) await this.#source.send(undefined, notice)
      }
    }
  }
}

/** How far a run was told. */
interface Told {
  readonly seq: number
  readonly isOver: boolean
}

async function tellRun(source: ChatSource, runId: string, cursor: number): Promise<Told> {
  const run = await source.run(runId)
  const teller = new Teller(source, run)
  if (cursor === nothing) await teller.tell(0, acceptedNotices(run, source.scope))
  const parts = new ChatParts()
  let seq = Math.max(cursor, 0)
  let isOver = false
  // Parts are told whole, so events before the reader's place are needed too, though not told.
  for await (const event of withPauses(source.events(runId, 0), () => teller.dueMs)) {
    if (!source.isOpen()) break
    if (event === undefined) await teller.flush()
    if (event === undefined || event.type === 'gap') continue
    const part = parts.apply(event)
    if (event.seq <= cursor) continue
    seq = event.seq
    isOver = event.type === 'run.finished'
    await teller.event(event, part)
  }
  await teller.flush()
  return { seq, isOver: isOver || (await source.run(runId)).state === 'finished' }
}

/** What comes; and `undefined` when nothing has come for as long as `dueMs` then says, if it says so. */
async function* withPauses<Item>(items: AsyncIterable<Item>, dueMs: () => number | undefined): AsyncGenerator<Item | undefined> {
  const iterator = items[Symbol.asyncIterator]()
  let isOver = false
  try {
    for (let next = iterator.next(); ; ) {
      const ms = dueMs()
      const result = ms === undefined ? await next : await within(next, ms)
      if (result === undefined) {
        yield undefined
        continue
      }
      isOver = result.done === true
      if (result.done) return
      yield result.value
      next = iterator.next()
    }
  } finally {
    // Whatever comes is not waited for: who leaves in the middle ends it, too.
    if (!isOver) iterator.return?.().then(ignore, ignore)
  }
}

const ignore = (): void => undefined

/** Undefined when it takes longer. */
function within<Result>(work: Promise<Result>, ms: number): Promise<Result | undefined> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms, undefined)
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** Tells one run. */
class Teller {
  readonly #source: ChatSource
  readonly #run: AgentRun
  readonly #pending = new Map<string, ChatPart>()
  #sentAt = 0
  #seq = 0

  constructor(source: ChatSource, run: AgentRun) {
    this.#source = source
    this.#run = run
  }

  /** In how many milliseconds what has not been told is due; undefined when there is nothing. */
  get dueMs(): number | undefined {
    return this.#pending.size === 0 ? undefined : Math.max(0, this.#sentAt + partPauseMs - Date.now())
  }

  async tell(seq: number, notices: readonly ChatNotice[]): Promise<void> {
    // Who leaves in the middle of them must get all of them again.
    for (const [index, notice] of notices.entries()) {
      await this.#source.send(index === notices.length - 1 ? `${this.#run.id}:${seq}` : undefined, notice)
    }
  }

  async event(event: Exclude<AgentEvent, { type: 'gap' }>, part: ChatPart | undefined): Promise<void> {
    const { seq, at, type } = event
    if (type === 'run.started') await this.tell(seq, startedNotices(this.#run, this.#source.scope, at))
    if (part) this.#pending.set(part.id, part)
    if (type === 'run.finished') {
      await this.flush()
      await this.#end(seq, at)
      return
    }
    this.#seq = seq
    if (!type.endsWith('.delta') || this.dueMs === 0) await this.flush()
  }

  async flush(): Promise<void> {
    const due = [...this.#pending.values()]
    this.#pending.clear()
    this.#sentAt = Date.now()
    await this.tell(
      this.#seq,
      due.map((part) => partNotice(this.#run, assistantMessageId(this.#run), part)),
    )
  }

  async #end(seq: number, at: number): Promise<void> {
    const ended = await this.#source.run(this.#run.id)
    const info = infoOf(ended, 'assistant', ended.started_at ?? at, { completed: at })
    await this.tell(seq, [{ event: 'message.updated', data: { info } }, ...endNotices(ended, this.#source.scope)])
  }
}
