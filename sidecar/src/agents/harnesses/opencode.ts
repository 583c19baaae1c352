// opencode over the server it brings along (`opencode serve`). ACP listens a second sooner, but tells the tokens of a turn's last answer
// only, no status of a model that failed, no tries, and nothing of what a subagent does; and the server is in it anyhow.
import type { AgentError } from '@atoll/protocol'
import { endProcess, tailOf } from '../drivers/endings.ts'
import { type Json, record, text } from '../drivers/json.ts'
import { LocalServer, listening } from '../drivers/local-server.ts'
import { errorOfMessage } from '../drivers/model-errors.ts'
import { furnish, type Model, opencodeCredentialEnv, ownFiles, usableProviders } from '../drivers/opencode-config.ts'
import { OpencodeEvents, type Signal } from '../drivers/opencode-events.ts'
import type { Harness, HarnessProcess, Turn, TurnContext, TurnEnd } from '../harness.ts'
import { agentError, providerError } from '../harness-error.ts'

const startMs = 60_000
const settleMs = 1500
/** Its own tries go on for more than a minute, and nothing turns them off. */
const maxTries = 2
const maxRetryDelayMs = 10_000

interface Parts {
  readonly server: LocalServer
  /** Undefined: opencode's own choice. */
  readonly model: Model | undefined
  /** The newest status of a model that failed, in what the server logs. */
  readonly lastStatus: () => number | undefined
}

class OpencodeTurn {
  readonly #turn: Turn
  readonly #context: TurnContext
  readonly #server: LocalServer
  readonly #model: Model | undefined
  readonly #lastStatus: Parts['lastStatus']
  #steps = 0
  #isAtLimit = false
  #error: AgentError | undefined

  constructor(turn: Turn, context: TurnContext, { server, model, lastStatus }: Parts) {
    this.#turn = turn
    this.#context = context
    this.#server = server
    this.#model = model
    this.#lastStatus = lastStatus
  }

  async run(): Promise<TurnEnd> {
    const opened = await this.#open()
    if ('code' in opened) return { outcome: 'failed', error: opened }
    const { id, query } = opened
    this.#context.emit({ type: 'session.linked', native_session_id: id })
    const events = new OpencodeEvents(this.#turn, this.#context, id)
    const stop = (): void => void this.#server.call('POST', `/session/${id}/abort${query}`).catch(() => undefined)
    const stream = await this.#server.events(`/event${query}`)
    const ended = this.#follow(stream, { events, stop })
    this.#context.signal.addEventListener('abort', stop, { once: true })
    try {
      const system = this.#turn.systemPrompt
      const parts = [{ type: 'text', text: this.#turn.prompt }]
      const body = { parts, ...(this.#model && { model: this.#model }), ...(system !== '' && { system }) }
      const { status, body: answer } = await this.#server.call('POST', `/session/${id}/prompt_async${query}`, body)
      if (status >= 400) return { outcome: 'failed', error: agentError('config', `The prompt was refused: ${JSON.stringify(answer)}`) }
      if (this.#context.signal.aborted) stop()
      void this.#tellServers(query)
      await Promise.race([ended, this.#cancelledLongAgo()])
      return this.#end(events.lastText)
    } finally {
      this.#context.signal.removeEventListener('abort', stop)
    }
  }

  /** It knows by the time that it asks its model. */
  async #tellServers(query: string): Promise<void> {
    const names = Object.keys(this.#turn.mcpServers)
    if (names.length === 0) return
    const answer = await this.#server.call('GET', `/mcp${query}`).catch(() => undefined)
    for (const name of names) {
      const { status, error } = record(answer?.body[name])
      const message = text(error)
      if (status === 'connected') this.#context.emit({ type: 'mcp.status', name, status })
      else if (status !== undefined)
        this.#context.emit({ type: 'mcp.status', name, status: 'failed', message: message || `It is ${status}.` })
    }
  }

  /** Its own limit (`steps`) only asks the model to come to an end. */
  #count(reason: string, stop: () => void): void {
    this.#steps += 1
    if (this.#turn.maxTurns === 0 || this.#steps < this.#turn.maxTurns || reason !== 'tool-calls') return
    this.#isAtLimit = true
    stop()
  }

  #end(text: string | undefined): TurnEnd {
    const said = text === undefined ? {} : { text }
    if (this.#context.signal.aborted) return { outcome: 'cancelled', ...said }
    if (this.#isAtLimit) return { outcome: 'max_turns', stopReason: 'max_turns', ...said }
    return this.#error ? { outcome: 'failed', error: this.#error, ...said } : { outcome: 'completed', ...said }
  }

  async #cancelledLongAgo(): Promise<void> {
    const { signal } = this.#context
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    await new Promise((resolve) => setTimeout(resolve, settleMs).unref())
  }

  /** A new session, or the earlier one; it works in its own directory and nowhere else. */
  async #open(): Promise<{ id: string; query: string } | AgentError> {
    const { nativeSessionId, cwd } = this.#turn
    const queryOf = (directory: string): string => `?directory=${encodeURIComponent(directory)}`
    if (nativeSessionId === undefined) {
      // With a title, it asks no model for one.
      const { status, body } = await this.#server.call('POST', `/session${queryOf(cwd)}`, { title: 'run' })
      if (status < 300) return { id: text(body['id']), query: queryOf(cwd) }
      return agentError('internal', `opencode made no session (${status}).`)
    }
    const { status, body } = await this.#server.call('GET', `/session/${nativeSessionId}${queryOf(cwd)}`)
    if (status !== 200) return agentError('session_not_found', `opencode does not know the session ${nativeSessionId}.`)
    const directory = text(body['directory'])
    if (directory !== cwd)
      this.#context.emit({ type: 'warning', message: `opencode goes on in ${directory}, where the conversation began.` })
    return { id: nativeSessionId, query: queryOf(directory) }
  }

  async #follow(stream: AsyncGenerator<Json>, { events, stop }: { events: OpencodeEvents; stop: () => void }): Promise<void> {
    for await (const event of stream) {
      const properties = record(event['properties'])
      const signal = events.take({ type: text(event['type']), properties })
      if (signal?.type === 'idle') return
      if (signal) this.#heed(signal, { events, stop })
    }
    this.#error ??= agentError('lost', 'opencode ended in the middle of the turn.')
  }

  #heed(signal: Signal, { events, stop }: { events: OpencodeEvents; stop: () => void }): void {
    if (signal.type === 'failed') this.#error ??= signal.error
    if (signal.type === 'asked') void this.#answer(signal.request, events)
    if (signal.type === 'step') this.#count(signal.reason, stop)
    if (signal.type !== 'retrying') return
    const { attempt, delayMs, message } = signal
    const status = this.#lastStatus()
    if (attempt < maxTries && delayMs < maxRetryDelayMs) {
      events.takeBack()
      this.#context.emit({ type: 'retry', attempt, delay_ms: delayMs, ...(status !== undefined && { http_status: status }), message })
      return
    }
    this.#error ??= status === undefined ? errorOfMessage(message) : providerError(status, message)
    stop()
  }

  async #answer(request: Json, events: OpencodeEvents): Promise<void> {
    const [name, toolId] = [text(request['permission']), text(record(request['tool'])['callID'])]
    const decision = this.#turn.permissionMode === 'auto' ? 'allow_once' : await this.#ask(request, { name, toolId })
    if (decision === 'reject') events.deny(toolId)
    const reply = { allow_once: 'once', allow_always: 'always', reject: 'reject' }[decision]
    // Without a message, a refusal would end the turn.
    const body = decision === 'reject' ? { reply, message: 'The user does not allow this.' } : { reply }
    await this.#server.call('POST', `/permission/${text(request['id'])}/reply`, body).catch(() => undefined)
  }

  #ask(request: Json, { name, toolId }: { name: string; toolId: string }) {
    const kind = name === 'bash' ? 'shell' : name === 'edit' ? 'edit' : 'other'
    return this.#context.ask({ toolId, name, kind, input: request['metadata'], options: ['allow_once', 'allow_always', 'reject'] })
  }
}

async function run(turn: Turn, context: TurnContext): Promise<TurnEnd> {
  const password = Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString('base64url')
  const { place, model } = await furnish(turn, context)
  const process: HarnessProcess = await context.spawn({
    argv: ['opencode', 'serve', '--hostname', '127.0.0.1', '--port', '0', '--print-logs', '--log-level', 'ERROR'],
    env: {
      TMPDIR: context.scratch,
      OPENCODE_CONFIG_DIR: place,
      OPENCODE_SERVER_PASSWORD: password,
      OPENCODE_DISABLE_AUTOUPDATE: '1',
      OPENCODE_DISABLE_MODELS_FETCH: '1',
    },
    cwd: turn.cwd,
  })
  const tail = tailOf(process)
  const lastStatus = (): number | undefined => {
    const found = [...tail().matchAll(/"?status_?[cC]ode"?[:=]\s*(\d{3})/g)].at(-1)?.[1]
    return found === undefined ? undefined : Number(found)
  }
  try {
    const url = await listening(process, startMs)
    using server = new LocalServer(url, { authorization: `Basic ${Buffer.from(`opencode:${password}`).toString('base64')}` })
    return await new OpencodeTurn(turn, context, { server, model, lastStatus }).run()
  } catch (error) {
    if (context.signal.aborted) return { outcome: 'cancelled' }
    return { outcome: 'failed', error: agentError('lost', `${error instanceof Error ? error.message : error} ${tail()}`.trim()) }
  } finally {
    await endProcess(process, 0)
  }
}

export const opencode: Harness = {
  id: 'opencode',
  label: 'opencode',
  command: 'opencode',
  mcp: true,
  skills: true,
  subagents: true,
  credentialEnv: opencodeCredentialEnv,
  hasCredentials: (env, hasFile) => usableProviders(env).length > 0 || ownFiles.some((file) => hasFile(file)),
  turn: run,
}
