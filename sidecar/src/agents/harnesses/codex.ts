// Codex, one process for each turn, over its app server: the only route of its with deltas, questions, and the status of a failure.
import path from 'node:path'
import { agentsConfig, keyNames, providerConfig, serversConfig, shellConfig } from '../drivers/codex-config.ts'
import { CodexEvents, codexError, codexLog } from '../drivers/codex-events.ts'
import { writeSkills } from '../drivers/definitions.ts'
import { type Json, record, text } from '../drivers/json.ts'
import { JsonLines } from '../drivers/json-lines.ts'
import { JsonRpc, RpcError } from '../drivers/json-rpc.ts'
import type { Harness, Turn, TurnContext, TurnEnd } from '../harness.ts'
import { agentError } from '../harness-error.ts'

/** Subagents that nobody waits for may end their work for so long after the answer. */
const subagentsMs = 10_000

/** What it would ask of others, and the tries that it would make for minutes. */
const argv = [
  'codex',
  'app-server',
  ...['check_for_update_on_startup=false', 'analytics.enabled=false', 'features.plugins=false', 'features.apps=false'].flatMap((set) => [
    '-c',
    set,
  ]),
  ...['-c', 'features.unbounded_connection_retries=false'],
]

class CodexTurn {
  readonly #turn: Turn
  readonly #context: TurnContext
  readonly #program: JsonLines
  readonly #rpc: JsonRpc
  readonly #events: CodexEvents
  readonly #over = Promise.withResolvers<Json>()
  readonly #busySubagents = new Set<string>()
  #subagentsIdle = Promise.withResolvers<void>()
  #threadId = ''
  #turnId = ''
  #steps = 0
  #isAtLimit = false

  constructor(turn: Turn, context: TurnContext, { program, events }: { program: JsonLines; events: CodexEvents }) {
    this.#turn = turn
    this.#context = context
    this.#program = program
    this.#events = events
    this.#rpc = new JsonRpc(program, {
      notified: (method, params) => this.#notice(method, params),
      requested: (method, params) => this.#answer(method, params),
    })
  }

  async run(): Promise<TurnEnd> {
    const { signal } = this.#context
    const interrupt = (): void => void this.#interrupt()
    signal.addEventListener('abort', interrupt, { once: true })
    try {
      return await Promise.race([this.#converse(), this.#rpc.ended.then(() => this.#lost())])
    } catch (error) {
      if (!(error instanceof RpcError)) throw error
      return signal.aborted ? { outcome: 'cancelled' } : await this.#refused(error)
    } finally {
      signal.removeEventListener('abort', interrupt)
      this.#program.endInput()
    }
  }

  async #converse(): Promise<TurnEnd> {
    const clientInfo = { name: 'atoll', title: 'Atoll', version: '1' }
    await this.#rpc.request('initialize', { clientInfo, capabilities: { experimentalApi: true } })
    this.#rpc.notify('initialized', {})
    await this.#openThread()
    const input = [{ type: 'text', text: this.#turn.prompt, text_elements: [] }]
    const started = await this.#rpc.request('turn/start', { threadId: this.#threadId, input })
    this.#began(text(record(started['turn'])['id']))
    const over = await this.#over.promise
    if (over['status'] === 'completed') await this.#waitForSubagents()
    return this.#end(over)
  }

  async #openThread(): Promise<void> {
    const { nativeSessionId, cwd, model, systemPrompt, permissionMode, skills } = this.#turn
    if (Object.keys(skills).length > 0) {
      const folder = path.join(this.#context.scratch, 'skills')
      await writeSkills(this.#turn, this.#context, folder)
      await this.#rpc.request('skills/extraRoots/set', { extraRoots: [folder] })
    }
    const config = {
      ...providerConfig(this.#context.env),
      ...serversConfig(this.#turn),
      ...(await agentsConfig(this.#turn, this.#context)),
      ...(await this.#shellConfig()),
    }
    const settings = {
      cwd,
      config,
      approvalPolicy: permissionMode === 'auto' ? 'never' : 'untrusted',
      // The sandbox around it is the wall; one of its own would leave empty folders wherever it is interrupted.
      sandbox: 'danger-full-access',
      ...(model !== '' && { model }),
      ...(systemPrompt !== '' && { developerInstructions: systemPrompt }),
    }
    const opened =
      nativeSessionId === undefined
        ? await this.#rpc.request('thread/start', settings)
        : await this.#rpc.request('thread/resume', { ...settings, threadId: nativeSessionId, excludeTurns: true })
    this.#threadId = text(record(opened['thread'])['id'])
    this.#events.mainThread = this.#threadId
    this.#context.emit({ type: 'session.linked', native_session_id: this.#threadId })
    if (this.#context.signal.aborted) throw new RpcError(0, 'The run was stopped.')
  }

  async #shellConfig(): Promise<Json> {
    const { config } = await this.#rpc.request('config/read', { includeLayers: false, cwd: this.#turn.cwd })
    return shellConfig(record(record(config)['shell_environment_policy']), this.#context.env)
  }

  #began(turnId: string): void {
    this.#turnId = turnId
    this.#events.turnId = turnId
    if (this.#context.signal.aborted) void this.#interrupt()
  }

  #notice(method: string, params: Json): void {
    const isMain = params['threadId'] === this.#threadId
    if (isMain && method === 'turn/started') this.#began(text(record(params['turn'])['id']))
    this.#events.take(method, params)
    if (method === 'turn/completed' && isMain) this.#over.resolve(record(params['turn']))
    else if (method === 'turn/started' && !isMain) this.#busySubagents.add(text(params['threadId']))
    else if (method === 'turn/completed') this.#rest(text(params['threadId']))
    else if (method === 'thread/tokenUsage/updated' && isMain && params['turnId'] === this.#turnId) this.#step()
    else if (method === 'item/started' && isMain) this.#checkLimit(record(params['item']))
  }

  #rest(threadId: string): void {
    this.#busySubagents.delete(threadId)
    if (this.#busySubagents.size === 0) this.#subagentsIdle.resolve()
  }

  #step(): void {
    this.#steps += 1
    this.#isAtLimit = this.#steps === this.#turn.maxTurns
  }

  /** Codex has no limit of its own: what begins after the last answer that may be is interrupted. */
  #checkLimit(item: Json): void {
    if (this.#isAtLimit && item['type'] !== 'userMessage') void this.#interrupt()
  }

  async #waitForSubagents(): Promise<void> {
    if (this.#busySubagents.size === 0) return
    this.#subagentsIdle = Promise.withResolvers()
    const timer = setTimeout(() => this.#subagentsIdle.resolve(), subagentsMs)
    await Promise.race([this.#subagentsIdle.promise, this.#rpc.ended])
    clearTimeout(timer)
  }

  /** An interrupt alone leaves commands running. */
  async #interrupt(): Promise<void> {
    if (this.#turnId === '') return
    const threadId = this.#threadId
    await this.#rpc.request('turn/interrupt', { threadId, turnId: this.#turnId }).catch(() => undefined)
    await this.#rpc.request('thread/backgroundTerminals/clean', { threadId }).catch(() => undefined)
  }

  async #answer(method: string, params: Json): Promise<object | undefined> {
    if (method === 'mcpServer/elicitation/request') return this.#answerServer(params)
    if (method !== 'item/commandExecution/requestApproval' && method !== 'item/fileChange/requestApproval') return undefined
    const toolId = text(params['itemId'])
    const command = params['command'] === undefined ? undefined : { command: params['command'], cwd: params['cwd'] }
    const kind = method === 'item/fileChange/requestApproval' ? 'edit' : 'shell'
    const tool = this.#events.toolAt(toolId) ?? { name: kind === 'edit' ? 'apply_patch' : 'shell', kind, input: command }
    const decision = await this.#context.ask({ toolId, name: tool.name, kind, input: tool.input ?? command })
    if (decision === 'reject') return { decision: 'decline' }
    return { decision: decision === 'allow_always' ? 'acceptForSession' : 'accept' }
  }

  async #answerServer(params: Json): Promise<object> {
    const name = text(params['serverName'])
    const decision = await this.#context.ask({ name, kind: 'mcp', input: { message: params['message'] } })
    return { action: decision === 'reject' ? 'decline' : 'accept', content: decision === 'reject' ? null : {}, _meta: null }
  }

  #end(turn: Json): TurnEnd {
    if (turn['status'] === 'completed') return { outcome: 'completed', stopReason: 'end_turn' }
    if (turn['status'] === 'interrupted') {
      return this.#context.signal.aborted ? { outcome: 'cancelled' } : { outcome: 'max_turns', stopReason: 'max_turns' }
    }
    return { outcome: 'failed', error: codexError(record(turn['error'])) }
  }

  async #refused({ message }: RpcError): Promise<TurnEnd> {
    if (message.startsWith('The program')) return this.#lost()
    const isUnknown = this.#turn.nativeSessionId !== undefined && /no rollout|not found/i.test(message)
    return { outcome: 'failed', error: agentError(isUnknown ? 'session_not_found' : 'config', message) }
  }

  /** It ended before the turn was over. */
  async #lost(): Promise<TurnEnd> {
    if (this.#context.signal.aborted) return { outcome: 'cancelled' }
    const exit = await this.#program.exit
    const how = exit.type === 'exited' ? `with status ${exit.code}` : 'by a signal'
    return { outcome: 'failed', error: agentError('lost', `Codex ended ${how} before it had answered. ${this.#program.errors}`.trim()) }
  }
}

export const codex: Harness = {
  id: 'codex',
  label: 'Codex',
  command: 'codex',
  mcp: true,
  skills: true,
  subagents: true,
  credentialEnv: [...keyNames, 'OPENAI_BASE_URL'],
  hasCredentials: (env, hasFile) => keyNames.some((name) => env[name]) || hasFile('.codex/auth.json'),
  turn: async (turn, context) => {
    const events = new CodexEvents(context)
    const program = await JsonLines.start(context, { argv, env: { RUST_LOG: codexLog }, cwd: turn.cwd }, (line) => events.takeLog(line))
    return new CodexTurn(turn, context, { program, events }).run()
  },
}
