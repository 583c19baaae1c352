// Prompts, tasks and chats of the reference's clients, over the sessions and runs of the sandbox.
import { type AgentEvent, type AgentRun, type AgentSession, type chatRoutes, Failure, StartRun } from '@atoll/protocol'
import { followChat, positionOf } from '../../agents/chat-stream.ts'
import { assistantMessageOf, type ChatScope, chatRunOf, progressOf, statusOf, userMessageOf } from '../../agents/chat-view.ts'
import { withHarness } from '../../agents/default-harness.ts'
import type { Lifecycle } from '../../sandboxes/lifecycle.ts'
import type { SandboxRecord } from '../../sandboxes/sandbox.ts'
import type { RunQuota } from '../../services/run-quota.ts'
import { type EventStream, eventStream } from '../answers.ts'
import type { Handlers } from '../call.ts'
import { eventsOf } from '../event-lines.ts'
import { caller, type GuestCalls, recordCaller, recordsOf } from '../guest-calls.ts'

export interface ChatHandlerParts extends GuestCalls {
  /** Ends the streams that would go on for ever when the operator stops. */
  readonly stopping: AbortSignal
  readonly lifecycle: Pick<Lifecycle, 'get' | 'awake'>
  readonly runQuota: RunQuota
}

const promptTimeoutMs = 600_000
const taskTimeoutMs = 1_800_000
/** A run that somebody else began is seen so much later at most. */
const newsMs = 500
const keptProgress = 200

const scopeOf = (sandbox: SandboxRecord): ChatScope => ({ sandboxId: sandbox.id, owner: sandbox.owner })
/** What clients call a chat that has no name; it gets one from its first prompt. */
const unnamed: readonly string[] = ['New Chat', 'Chat Session']
const summaryOf = ({ id, title, active_run_id: active }: AgentSession) => ({
  session_id: id,
  title: title || 'New Chat',
  ...(active !== null && { active_run_id: active }),
})
const acceptedOf = (run: AgentRun) => ({
  accepted: true as const,
  run_id: run.id,
  session_id: run.session_id,
  status: 'queued' as const,
  accepted_at: run.created_at,
})

/** What a sidecar is told of a prompt or a task. */
interface Asked {
  readonly prompt: string
  readonly kind: 'prompt' | 'task'
  readonly max_turns: number
  readonly session_id: string
  readonly backend_type: string
  readonly model: string
  readonly context_json: { readonly system_prompt?: string | undefined }
  readonly timeout_ms: number
}

/** @throws Failure `request.invalid` when the backend is no name of a harness */
function startOf({ backend_type: harness, context_json: context, timeout_ms: timeout, ...rest }: Asked): StartRun {
  const parsed = StartRun.safeParse({
    ...rest,
    harness: harness === 'default' ? '' : harness,
    system_prompt: context.system_prompt ?? '',
    timeout_ms: timeout || (rest.kind === 'task' ? taskTimeoutMs : promptTimeoutMs),
  })
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new Failure('request.invalid', `${issue?.path.join('.')}: ${issue?.message}`, { cause: parsed.error })
}

class Chats {
  readonly #call: ReturnType<typeof caller>
  readonly #look: ReturnType<typeof recordCaller>
  readonly #records: ReturnType<typeof recordsOf>
  readonly #runQuota: RunQuota

  constructor(parts: ChatHandlerParts) {
    this.#call = caller(parts)
    this.#look = recordCaller(parts)
    this.#records = recordsOf(parts)
    this.#runQuota = parts.runQuota
  }

  start(sandbox: SandboxRecord, asked: Asked): Promise<AgentRun> {
    const body = withHarness(startOf(asked), sandbox)
    return this.#runQuota.start(sandbox, () => this.#call(sandbox, { method: 'POST', path: '/agents/runs', body }))
  }

  async sessions(sandbox: SandboxRecord): Promise<AgentSession[]> {
    return (await this.#look<{ sessions: AgentSession[] }>(sandbox, { method: 'GET', path: '/agents/sessions' })).sessions
  }

  create(sandbox: SandboxRecord, title: string): Promise<AgentSession> {
    return this.#call(sandbox, {
      method: 'POST',
      path: '/agents/sessions',
      body: { title: unnamed.includes(title) ? '' : title, harness: '' },
    })
  }

  session(sandbox: SandboxRecord, sid: string): Promise<AgentSession> {
    return this.#look(sandbox, { method: 'GET', path: `/agents/sessions/${encodeURIComponent(sid)}` })
  }

  run(sandbox: SandboxRecord, rid: string): Promise<AgentRun> {
    return this.#look(sandbox, { method: 'GET', path: `/agents/runs/${encodeURIComponent(rid)}` })
  }

  /** @throws Failure `agent.run_not_found` when the run is of another chat */
  async cancel(sandbox: SandboxRecord, sid: string, rid: string): Promise<AgentRun> {
    const { session_id: of } = await this.run(sandbox, rid)
    if (of !== sid) throw new Failure('agent.run_not_found', `There is no run ${rid} in this chat.`)
    return this.#call(sandbox, { method: 'POST', path: `/agents/runs/${encodeURIComponent(rid)}/cancel` })
  }

  remove(sandbox: SandboxRecord, sid: string): Promise<{ deleted: true; session_id: string }> {
    return this.#call(sandbox, { method: 'DELETE', path: `/agents/sessions/${encodeURIComponent(sid)}` })
  }

  async *events(sandbox: SandboxRecord, rid: string, options: { cursor: number; signal: AbortSignal }): AsyncGenerator<AgentEvent> {
    const path = `/agents/runs/${encodeURIComponent(rid)}/events?cursor=${options.cursor}`
    const { guest, release } = await this.#records(sandbox)
    try {
      const { body } = await guest.send({ method: 'GET', path, signal: options.signal })
      yield* eventsOf<AgentEvent>(body)
    } finally {
      await release()
    }
  }

  /** What has happened so far: a run that is under way is told up to its newest event. */
  async #seen(sandbox: SandboxRecord, run: AgentRun): Promise<AgentEvent[]> {
    const seen: AgentEvent[] = []
    if (run.last_seq === 0) return seen
    const left = new AbortController()
    for await (const event of this.events(sandbox, run.id, { cursor: 0, signal: left.signal })) {
      seen.push(event)
      if (event.type !== 'gap' && event.seq >= run.last_seq) break
    }
    left.abort()
    return seen
  }

  async detail(sandbox: SandboxRecord, sid: string) {
    const session = await this.session(sandbox, sid)
    const runs = await Promise.all(session.run_ids.map((id) => this.run(sandbox, id)))
    const messages = await Promise.all(
      runs.map(async (run) => {
        const answer = assistantMessageOf(run, await this.#seen(sandbox, run))
        return [userMessageOf(run), ...(answer ? [answer] : [])]
      }),
    )
    return {
      ...summaryOf(session),
      ...(session.native_session_id !== null && { sidecar_session_id: session.native_session_id }),
      messages: messages.flat(),
      run_progress: runs.map((run) => progressOf(run, statusOf(run), run.finished_at ?? run.created_at)).slice(-keptProgress),
      runs: runs.map((run) => chatRunOf(run, scopeOf(sandbox))),
    }
  }
}

/** The sandbox of a stream, which may be stopped and resumed meanwhile. */
class Followed {
  sandbox: SandboxRecord
  readonly #stream: EventStream
  readonly #current: (id: string) => Promise<SandboxRecord>
  #isWoken = false

  constructor(sandbox: SandboxRecord, stream: EventStream, current: (id: string) => Promise<SandboxRecord>) {
    this.sandbox = sandbox
    this.#stream = stream
    this.#current = current
  }

  wake(): void {
    this.#isWoken = true
    this.#stream.wake()
  }

  /** While the sandbox is stopped nothing comes, and nothing that would have to read it is asked. */
  async news(): Promise<void> {
    let isSame = true
    while (isSame && !this.#isWoken && this.#stream.isOpen()) {
      await this.#stream.sleep(newsMs)
      const before = this.sandbox
      this.sandbox = await this.#current(before.id)
      isSame = this.sandbox.state === 'stopped' && this.sandbox.version === before.version
    }
    this.#isWoken = false
  }
}

export function chatHandlers(parts: ChatHandlerParts): Handlers<typeof chatRoutes> {
  const chats = new Chats(parts)
  return {
    prompt: async ({ sandbox, request: { body } }) => {
      const { message, ...rest } = body
      return acceptedOf(await chats.start(sandbox, { ...rest, prompt: message, kind: 'prompt', max_turns: 0 }))
    },
    task: async ({ sandbox, request: { body } }) => acceptedOf(await chats.start(sandbox, { ...body, kind: 'task' })),
    sessions: async ({ sandbox }) => ({ sessions: (await chats.sessions(sandbox)).map(summaryOf) }),
    create: async ({ sandbox, request: { body } }) => summaryOf(await chats.create(sandbox, body.title)),
    detail: ({ sandbox, request: { params } }) => chats.detail(sandbox, params.sid),
    stream: async ({ sandbox, request: { params }, incoming, outgoing, signal }) => {
      // Asked before the answer begins, so that an unknown chat is a 404.
      await chats.session(sandbox, params.sid)
      const release = parts.activity.hold(sandbox.id)
      const ended = AbortSignal.any([signal, parts.stopping])
      const stream = eventStream(outgoing, ended)
      const header = incoming.headers['last-event-id']
      const followed = new Followed(sandbox, stream, (id) => parts.lifecycle.get(undefined, id))
      try {
        await followChat(
          {
            scope: scopeOf(sandbox),
            session: () => chats.session(followed.sandbox, params.sid),
            run: (id) => chats.run(followed.sandbox, id),
            events: (id, cursor) => chats.events(followed.sandbox, id, { cursor, signal: ended }),
            news: () => followed.news(),
            wake: () => followed.wake(),
            isOpen: stream.isOpen,
            send: (id, { event, data }) => stream.send({ id, event, data }),
          },
          positionOf(typeof header === 'string' ? header : undefined),
        )
      } catch (error) {
        if (!ended.aborted) throw error
      } finally {
        stream.close()
        await release()
      }
    },
    cancel: async ({ sandbox, request: { params } }) => {
      const run = await chats.cancel(sandbox, params.sid, params.rid)
      return { success: true, session_id: params.sid, run_id: run.id, status: statusOf(run), cancelled_at: Date.now() }
    },
    remove: ({ sandbox, request: { params } }) => chats.remove(sandbox, params.sid),
  }
}
