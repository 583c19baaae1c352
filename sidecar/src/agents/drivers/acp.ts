// One turn with a program that speaks the Agent Client Protocol on standard input and output.
import { type Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type * as Acp from '@agentclientprotocol/sdk'
import type { AgentError, PermissionDecision, ToolKind, Usage } from '@atoll/protocol'
import type { HarnessProcess, Turn, TurnContext, TurnEnd } from '../harness.ts'
import { agentError, providerError } from '../harness-error.ts'
import { AcpEvents } from './acp-events.ts'
import { endProcess, tailOf } from './endings.ts'
import { count, type Json, record, text } from './json.ts'
import { errorOfMessage } from './model-errors.ts'

/** What is special about a program. */
export interface AcpProgram {
  readonly argv: readonly string[]
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Ids of session modes, the first that the program has is set. Empty: leave it in its own. */
  readonly modes: readonly string[]
  /** Whether the model of the turn is chosen by argv or env already. */
  readonly choosesModel: boolean
  readonly toolName?: (call: Acp.ToolCallUpdate) => string | undefined
  readonly prompt: string
  /** Whether it shows nothing of a call before it has all the arguments. */
  readonly hidesArguments: boolean
  /** The turn ends after so many answers of the model, as far as they can be told apart. 0: no limit, or the program has its own. */
  readonly maxAnswers?: number
  /** After an earlier session was opened, its history may still be told; it is over when nothing came for so long. */
  readonly quietMs?: number
  /** How long it may take to end by itself. */
  readonly patienceMs?: number
  /** Called before the prompt. `fail` gives the turn up. */
  readonly opened?: (sessionId: string, fail: (error: AgentError) => void) => void
  /** After the program ended: tells the tokens of the turn, and what the program itself did not say about its end. */
  readonly closing?: (end: AcpEnd) => Promise<AcpEnd>
}

/** For a program that takes no system prompt: it stands before the prompt. */
export const withInstructions = ({ systemPrompt, prompt }: Turn): string =>
  systemPrompt === '' ? prompt : `<instructions>\n${systemPrompt}\n</instructions>\n\n${prompt}`

export interface AcpEnd extends TurnEnd {
  /** What the program answered to the prompt, with fields that are not in the protocol. */
  readonly answer?: Json | undefined
}

const handshakeMs = 60_000
const cancelMs = 1500
const lastWordsMs = 300

/** The tokens that a program told in its answer; not yet in the stable protocol. */
export function usageOf(answer: Json | undefined): Usage | undefined {
  if (!answer || !('usage' in answer)) return undefined
  const usage = record(answer['usage'])
  return {
    input: count(usage['inputTokens']),
    output: count(usage['outputTokens']) + count(usage['thoughtTokens']),
    cache_read: count(usage['cachedReadTokens']),
    cache_write: count(usage['cachedWriteTokens']),
    reasoning: count(usage['thoughtTokens']),
  }
}

type Refusal = Error & { readonly code: number }

const isRefusal = (error: unknown): error is Refusal => error instanceof Error && 'code' in error && typeof error.code === 'number'

/** Some programs pass on the JSON of a provider. */
function plain(message: string): string {
  try {
    return text(record(record(JSON.parse(message))['error'])['message']) || message
  } catch {
    return message
  }
}

/** What a refusal over the protocol means. Programs put the provider's status into the code, the data or the message. */
function errorOfRefusal(error: Refusal): AgentError {
  const { code } = error
  const data = record('data' in error ? error.data : undefined)
  const detail = typeof data['details'] === 'string' ? data['details'] : data['message']
  const said = plain(error.message)
  const message = typeof detail === 'string' && !said.includes(detail) ? `${said}: ${detail}` : said
  const status = count(data['statusCode']) || count(data['http_status_code']) || code
  if (status >= 400 && status < 600 && status !== 500) return providerError(status, message)
  if (code === -32_000) return agentError('auth', message)
  if (data['errorKind'] === 'rate_limit') return agentError('rate_limit', message)
  // Some say 500 of whatever has no status, and more in words.
  const told = errorOfMessage(message)
  return status === 500 && told.code === 'internal' ? providerError(status, message) : told
}

const serversOf = (turn: Turn): Acp.McpServer[] =>
  Object.entries(turn.mcpServers).map(([name, server]) =>
    'url' in server
      ? { type: 'http', name, url: server.url, headers: Object.entries(server.headers).map(([key, value]) => ({ name: key, value })) }
      : { name, command: server.command, args: server.args, env: Object.entries(server.env).map(([key, value]) => ({ name: key, value })) },
  )

const outcomes: Readonly<Record<string, TurnEnd['outcome']>> = {
  cancelled: 'cancelled',
  max_turn_requests: 'max_turns',
  refusal: 'failed',
}

const optionKinds: Readonly<Record<PermissionDecision, readonly Acp.PermissionOptionKind[]>> = {
  allow_once: ['allow_once', 'allow_always'],
  allow_always: ['allow_always', 'allow_once'],
  reject: ['reject_once', 'reject_always'],
}

interface Connection {
  readonly agent: Acp.ClientContext
  /** The last answer that told why a turn stopped, as it came. */
  readonly lastAnswer: () => Json | undefined
  /** When an update of the session came last. */
  readonly lastUpdate: () => number
}

class AcpTurn {
  readonly #turn: Turn
  readonly #context: TurnContext
  readonly #program: AcpProgram
  readonly #events: AcpEvents
  readonly #failed = Promise.withResolvers<AcpEnd>()
  readonly #limited = Promise.withResolvers<void>()
  #isAtLimit = false
  #isLive = false

  constructor(turn: Turn, context: TurnContext, program: AcpProgram) {
    this.#turn = turn
    this.#context = context
    this.#program = program
    this.#events = new AcpEvents({
      emit: context.emit,
      cwd: turn.cwd,
      servers: Object.keys(turn.mcpServers),
      toolName: program.toolName,
      hidesArguments: program.hidesArguments,
      mayAnswer: (count) => this.#mayAnswer(count),
      isCancelled: () => context.signal.aborted,
    })
  }

  async run(process: HarnessProcess): Promise<AcpEnd> {
    const connection = await this.#connect(process)
    try {
      const sessionId = await Promise.race([this.#open(connection), this.#tooSlow()])
      if (sessionId === undefined) return { outcome: 'cancelled' }
      this.#context.emit({ type: 'session.linked', native_session_id: sessionId })
      this.#program.opened?.(sessionId, (error) => this.#failed.resolve({ outcome: 'failed', error }))
      return await this.#prompt(connection, sessionId)
    } catch (error) {
      if (isAgentError(error)) return { outcome: 'failed', error }
      return { outcome: 'failed', error: isRefusal(error) ? errorOfRefusal(error) : agentError('lost', `${error}`) }
    } finally {
      this.#events.closeMessage()
    }
  }

  get lastText(): string | undefined {
    return this.#events.lastText
  }

  /** The protocol knows no limit: what begins after the last answer that may be is interrupted. */
  #mayAnswer(count: number): boolean {
    const { maxAnswers = 0 } = this.#program
    this.#isAtLimit = maxAnswers > 0 && count > maxAnswers
    if (this.#isAtLimit) this.#limited.resolve()
    return !this.#isAtLimit
  }

  async #connect(process: HarnessProcess): Promise<Connection> {
    const { client, ndJsonStream } = await import('./acp-library.ts')
    const wire = ndJsonStream(Writable.toWeb(process.stdin), bytesOf(process.stdout))
    let lastAnswer: Json | undefined
    let lastUpdate = Date.now()
    const watched = new TransformStream<Acp.AnyMessage, Acp.AnyMessage>({
      transform: (message, controller) => {
        const result = record('result' in message ? message.result : undefined)
        if ('stopReason' in result) lastAnswer = result
        controller.enqueue(message)
      },
    })
    const app = client({ name: 'atoll' })
      .onNotification('session/update', ({ params }) => {
        lastUpdate = Date.now()
        if (this.#isLive) this.#events.update(params.update)
      })
      .onRequest('session/request_permission', ({ params }) => this.#permit(params))
    const { agent } = app.connect({ readable: wire.readable.pipeThrough(watched), writable: wire.writable })
    return { agent, lastAnswer: () => lastAnswer, lastUpdate: () => lastUpdate }
  }

  /** Resolves when the run is cancelled. @throws AgentError when the program takes too long to be ready */
  async #tooSlow(): Promise<undefined> {
    const { signal } = this.#context
    await delay(handshakeMs, undefined, { ref: false, signal }).catch(() => undefined)
    if (!signal.aborted) throw agentError('timeout', `The program was not ready within ${handshakeMs} ms.`)
  }

  /** Opens the session of the turn. @throws AgentError, or what the program answered */
  async #open({ agent, lastUpdate }: Connection): Promise<string> {
    const { agentCapabilities } = await agent.request('initialize', {
      protocolVersion: 1,
      clientCapabilities: { fs: { readTextFile: false, writeTextFile: false }, terminal: false },
      clientInfo: { name: 'atoll', version: '1' },
    })
    const place = { cwd: this.#turn.cwd, mcpServers: serversOf(this.#turn) }
    const { nativeSessionId } = this.#turn
    if (nativeSessionId === undefined) {
      const session = await agent.request<Acp.NewSessionResponse>('session/new', place)
      await this.#prepare(agent, session.sessionId, session)
      return session.sessionId
    }
    const canResume = agentCapabilities?.sessionCapabilities?.resume
    if (!canResume && !agentCapabilities?.loadSession)
      throw agentError('session_not_found', 'This program cannot go on with an earlier conversation.')
    const session = await reopen(agent, { sessionId: nativeSessionId, ...place }, canResume ? 'session/resume' : 'session/load')
    while (Date.now() - lastUpdate() < (this.#program.quietMs ?? 0)) await delay(20)
    await this.#prepare(agent, nativeSessionId, session)
    return nativeSessionId
  }

  /** Mode and model, where the program has a choice. */
  async #prepare(
    agent: Acp.ClientContext,
    sessionId: string,
    session: Pick<Acp.NewSessionResponse, 'modes' | 'configOptions'>,
  ): Promise<void> {
    const has = new Set(session.modes?.availableModes.map(({ id }) => id))
    const modeId = this.#program.modes.find((id) => has.has(id))
    // What a program says of the mode of an earlier session need not be true.
    if (modeId !== undefined) await agent.request('session/set_mode', { sessionId, modeId })
    if (this.#program.choosesModel || this.#turn.model === '') return
    const option = session.configOptions?.find(({ category }) => category === 'model')
    if (!option) this.#context.emit({ type: 'warning', message: 'This program offers no choice of a model; it uses its own.' })
    else await agent.request('session/set_config_option', { sessionId, configId: option.id, value: this.#turn.model })
  }

  async #prompt({ agent, lastAnswer }: Connection, sessionId: string): Promise<AcpEnd> {
    const { signal } = this.#context
    if (signal.aborted) return { outcome: 'cancelled' }
    this.#isLive = true
    const answered = agent.request('session/prompt', { sessionId, prompt: [{ type: 'text', text: this.#program.prompt }] })
    const cancelled = Promise.withResolvers<AcpEnd>()
    const cancel = async (): Promise<void> => {
      await agent.notify('session/cancel', { sessionId }).catch(() => undefined)
      await delay(cancelMs, undefined, { ref: false })
      cancelled.resolve({ outcome: 'cancelled' })
    }
    signal.addEventListener('abort', cancel, { once: true })
    void this.#limited.promise.then(cancel)
    try {
      const end = await Promise.race([
        answered.then(({ stopReason }) => ({
          outcome: outcomes[stopReason] ?? 'completed',
          stopReason,
          answer: lastAnswer(),
          ...(stopReason === 'refusal' ? { error: agentError('internal', 'The model refused to go on.') } : {}),
        })),
        cancelled.promise,
        this.#failed.promise,
      ])
      return this.#isAtLimit ? { ...end, outcome: 'max_turns', stopReason: 'max_turns' } : end
    } finally {
      signal.removeEventListener('abort', cancel)
    }
  }

  async #permit({ options, toolCall }: Acp.RequestPermissionRequest): Promise<Acp.RequestPermissionResponse> {
    const { name, kind } = this.#events.toolCall(toolCall)
    if (this.#isAtLimit) return { outcome: { outcome: 'cancelled' } }
    const decision = this.#turn.permissionMode === 'auto' ? 'allow_once' : await this.#ask({ options, toolCall }, { name, kind })
    if (decision === 'reject') this.#events.deny(toolCall.toolCallId)
    const wanted = optionKinds[decision]
    const option = wanted.map((one) => options.find((offered) => offered.kind === one)).find((found) => found !== undefined)
    if (!option || this.#context.signal.aborted) return { outcome: { outcome: 'cancelled' } }
    return { outcome: { outcome: 'selected', optionId: option.optionId } }
  }

  #ask({ options, toolCall }: Pick<Acp.RequestPermissionRequest, 'options' | 'toolCall'>, tool: { name: string; kind: ToolKind }) {
    const canAlways = options.some(({ kind }) => kind === 'allow_always')
    return this.#context.ask({
      ...tool,
      toolId: toolCall.toolCallId,
      input: toolCall.rawInput ?? { title: toolCall.title },
      options: canAlways ? ['allow_once', 'allow_always', 'reject'] : ['allow_once', 'reject'],
    })
  }
}

const isAgentError = (error: unknown): error is AgentError =>
  typeof error === 'object' && error !== null && !(error instanceof Error) && 'retryable' in error

async function reopen(
  agent: Acp.ClientContext,
  earlier: Acp.LoadSessionRequest,
  method: 'session/resume' | 'session/load',
): Promise<Acp.LoadSessionResponse> {
  try {
    return (await agent.request<Acp.LoadSessionResponse>(method, earlier)) ?? {}
  } catch (error) {
    if (!isRefusal(error)) throw error
    const known = errorOfRefusal(error)
    throw known.code === 'auth' ? known : agentError('session_not_found', known.message)
  }
}

/** The bytes of a stream that ends without complaint when its process does. */
function bytesOf(stream: Readable): ReadableStream<Uint8Array> {
  let isOpen = true
  return new ReadableStream({
    start: (controller) => {
      stream.on('data', (chunk: Uint8Array) => isOpen && controller.enqueue(chunk))
      stream.on('error', () => undefined)
      stream.once('close', () => isOpen && controller.close())
    },
    cancel: () => {
      isOpen = false
      stream.destroy()
    },
  })
}

export async function runAcpTurn(turn: Turn, context: TurnContext, program: AcpProgram): Promise<TurnEnd> {
  const env = { TMPDIR: context.scratch, ...program.env }
  const process = await context.spawn({ argv: program.argv, env, cwd: turn.cwd })
  const tail = tailOf(process)
  process.stdin.on('error', () => undefined)
  const acpTurn = new AcpTurn(turn, context, program)
  const died = process.exit.then(async (exit): Promise<AcpEnd> => {
    await delay(lastWordsMs, undefined, { ref: false })
    const how = exit.type === 'exited' ? `with status ${exit.code}` : exit.type === 'signalled' ? `by ${exit.signal}` : 'unseen'
    return { outcome: 'failed', error: agentError('lost', `${program.argv[0]} ended ${how} in the middle of the turn. ${tail()}`.trim()) }
  })
  let end = await Promise.race([acpTurn.run(process), died])
  // A program that ends closes its output first; how it ended tells more.
  if (end.error?.code === 'lost') end = await Promise.race([died, delay(2 * lastWordsMs, end, { ref: false })])
  // Some programs call a turn complete that they were told to end.
  if (context.signal.aborted) end = { outcome: 'cancelled', stopReason: 'cancelled' }
  await endProcess(process, program.patienceMs)
  if (program.closing) end = await program.closing(end)
  const { answer: _, ...rest } = end
  return acpTurn.lastText === undefined ? rest : { text: acpTurn.lastText, ...rest }
}
