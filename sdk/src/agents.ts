import {
  type AgentEvent,
  type AgentRun as AgentRunInfo,
  type AgentSession,
  type PermissionDecision,
  routes,
  type SandboxHarness,
  type StartRunInput,
} from '@atoll/protocol'
import type { Connection } from './connection.ts'
import { follow } from './follow.ts'

export interface StartAgentOptions {
  /** A session to go on with; a new one when not given. */
  readonly sessionId?: string | undefined
  /** As in the capabilities, or `acp:<command>`; the session's or the image's own choice when not given. */
  readonly harness?: string | undefined
  readonly model?: string | undefined
  readonly systemPrompt?: string | undefined
  readonly maxTurns?: number | undefined
  /** Milliseconds after which the run is cancelled; 30 minutes when not given. */
  readonly timeoutMs?: number | undefined
  readonly cwd?: string | undefined
  /** `ask`: tools wait for an answer to their `permission.requested` event. `auto` when not given. */
  readonly permissionMode?: 'auto' | 'ask' | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly mcpServers?: StartRunInput['mcp_servers']
  readonly skills?: StartRunInput['skills']
  readonly subagents?: StartRunInput['subagents']
  readonly title?: string | undefined
}

export interface FollowAgentOptions {
  /** Number of the last event that the reader has; without it, from the first. */
  readonly cursor?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Milliseconds to go on without a connection; 60 000 when not given. */
  readonly patienceMs?: number | undefined
}

export interface PromptOptions extends StartAgentOptions, Omit<FollowAgentOptions, 'cursor'> {
  /** Called with each event, in order. */
  readonly onEvent?: ((event: AgentEvent) => unknown) | undefined
  /** Called with each piece of the answer as it is written. */
  readonly onText?: ((text: string) => unknown) | undefined
  /** Answers permission requests of mode `ask`; without it they are rejected. */
  readonly onPermission?:
    | ((request: Extract<AgentEvent, { type: 'permission.requested' }>) => PermissionDecision | Promise<PermissionDecision>)
    | undefined
}

/** One prompt in a session. It goes on whether or not anybody reads it. */
export class AgentRun {
  readonly id: string
  readonly sessionId: string
  readonly #connection: Connection
  readonly #params: { readonly id: string; readonly rid: string }
  #info: AgentRunInfo

  constructor(connection: Connection, sandboxId: string, info: AgentRunInfo) {
    this.id = info.id
    this.sessionId = info.session_id
    this.#connection = connection
    this.#params = { id: sandboxId, rid: info.id }
    this.#info = info
  }

  /** What was last learned of it; `refresh` learns anew. */
  get info(): AgentRunInfo {
    return this.#info
  }

  /** @throws Failure `agent.run_not_found` */
  async refresh(): Promise<AgentRunInfo> {
    this.#info = await this.#connection.call(routes.agents.run, { params: this.#params })
    return this.#info
  }

  /**
   * Everything that happens, in order, until `run.finished`. Connections that break are made anew without loss or repetition.
   * @throws Failure when it or its sandbox is gone; ConnectionFailure when the operator stays away
   */
  async *events(options: FollowAgentOptions = {}): AsyncGenerator<AgentEvent> {
    const isLast = (event: AgentEvent): boolean => event.type === 'run.finished'
    for await (const { event } of follow(this.#connection, routes.agents.events, { params: this.#params }, { ...options, isLast })) {
      yield event
    }
  }

  /** Ends it, and every process it started. Safe to repeat. */
  async cancel(): Promise<AgentRunInfo> {
    this.#info = await this.#connection.call(routes.agents.cancel, { params: this.#params }, { isRepeatable: true })
    return this.#info
  }

  /** Answers a `permission.requested` event. @throws Failure `agent.permission_not_found` when it has its answer */
  async permit(requestId: string, decision: PermissionDecision): Promise<void> {
    await this.#connection.call(routes.agents.permit, { params: { ...this.#params, request_id: requestId }, body: { decision } })
  }
}

/** Agents of a sandbox. Failures have codes that start with `agent.`. */
export class Agents {
  readonly #connection: Connection
  readonly #sandboxId: string

  constructor(connection: Connection, sandboxId: string) {
    this.#connection = connection
    this.#sandboxId = sandboxId
  }

  /** The harnesses of the sandbox. */
  async list(): Promise<SandboxHarness[]> {
    return (await this.#connection.call(routes.agents.list, { params: { id: this.#sandboxId } })).harnesses
  }

  /** Gives an agent a prompt and returns at once. @throws Failure `agent.harness_missing`, `agent.no_credentials`, `agent.too_many_runs` */
  async start(prompt: string, options: StartAgentOptions = {}): Promise<AgentRun> {
    const info = await this.#connection.call(routes.agents.start, { params: { id: this.#sandboxId }, body: bodyOf(prompt, options) })
    return new AgentRun(this.#connection, this.#sandboxId, info)
  }

  /**
   * Gives an agent a prompt and waits for its end. An agent that fails is a result: see `outcome` and `error`.
   * @throws Failure when it cannot be started; the reason of `signal` when that aborts, which cancels the run
   */
  async prompt(prompt: string, options: PromptOptions = {}): Promise<AgentRunInfo> {
    const { signal, patienceMs } = options
    signal?.throwIfAborted()
    const run = await this.start(prompt, options)
    try {
      for await (const event of run.events({ signal, patienceMs })) await react(run, event, options)
      return await run.refresh()
    } catch (error) {
      if (signal?.aborted) await run.cancel()
      throw error
    }
  }

  /** @throws Failure `agent.run_not_found` */
  async get(runId: string): Promise<AgentRun> {
    const info = await this.#connection.call(routes.agents.run, { params: { id: this.#sandboxId, rid: runId } })
    return new AgentRun(this.#connection, this.#sandboxId, info)
  }

  /** Conversations, newest first. */
  async sessions(): Promise<AgentSession[]> {
    return (await this.#connection.call(routes.agents.sessions, { params: { id: this.#sandboxId } })).sessions
  }

  /** Every prompt and event of a conversation, a JSON document a line. */
  async transcript(sessionId: string): Promise<string> {
    return (await this.#connection.open(routes.agents.transcript, { params: { id: this.#sandboxId, sid: sessionId } })).text()
  }

  /** Forgets a conversation. @throws Failure `agent.run_active` */
  async removeSession(sessionId: string): Promise<void> {
    await this.#connection.call(routes.agents.removeSession, { params: { id: this.#sandboxId, sid: sessionId } })
  }
}

async function react(run: AgentRun, event: AgentEvent, options: PromptOptions): Promise<void> {
  await options.onEvent?.(event)
  if (event.type === 'text.delta' && event.parent_tool_id === undefined) await options.onText?.(event.text)
  if (event.type === 'permission.requested') await run.permit(event.request_id, (await options.onPermission?.(event)) ?? 'reject')
}

function bodyOf(prompt: string, options: StartAgentOptions): StartRunInput {
  const { sessionId, harness, model, systemPrompt, maxTurns, timeoutMs, cwd, permissionMode, env, mcpServers, skills, subagents, title } =
    options
  const body: StartRunInput = { prompt }
  const given = {
    session_id: sessionId,
    harness,
    model,
    system_prompt: systemPrompt,
    max_turns: maxTurns,
    timeout_ms: timeoutMs,
    cwd,
    permission_mode: permissionMode,
    env_json: env && { ...env },
    mcp_servers: mcpServers,
    skills,
    subagents,
    title,
  }
  return { ...body, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) }
}
