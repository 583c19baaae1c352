// Says what it was told, and does what directives in the prompt ask for. It needs no program and no model, so that every part around a
// harness can be tried without one.
//   [[sleep:ms]] [[think:ms]] [[write:path|content]] [[shell:command]] [[ask]] [[recall]] [[fail:code]] [[throw]]
// Or it plays a plan as the scripted model does, with the same marks: [[plan:write,shell,mcp,skill,sub,text]]
import { once } from 'node:events'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type AgentErrorCode, Failure } from '@atoll/protocol'
import { randomId } from '../../random-id.ts'
import { type EchoScript, readScript, type Step } from '../drivers/echo-script.ts'
import { type EchoTool, mcpTool, shellTool, skillTool, subagentTool, writeTool } from '../drivers/echo-tools.ts'
import type { Harness, Turn, TurnContext, TurnEnd } from '../harness.ts'
import { agentError, providerError } from '../harness-error.ts'

const memory = '.cache/atoll-echo'
const slowPauseMs = 100
const slowText = Array.from({ length: 100 }, (_, index) => `word${index} `)

/** What one step did: the end of the turn, or something to say. */
type Done = { readonly end: TurnEnd } | { readonly say: string } | undefined
type Act = (argument: string) => Promise<Done>

const cancelled: TurnEnd = { outcome: 'cancelled' }
const limited: TurnEnd = { outcome: 'max_turns', stopReason: 'max_turns' }
const words = (text: string): number => text.split(/\s+/).length

/** In so many pieces at most, none of which is empty. */
function pieces(text: string, count: number): readonly string[] {
  const characters = [...text]
  const length = Math.max(1, Math.ceil(characters.length / count))
  return Array.from({ length: count }, (_, index) => characters.slice(index * length, (index + 1) * length).join('')).filter(Boolean)
}

const failed = (error: TurnEnd['error']): Done => ({ end: { outcome: 'failed', error } })

async function fail(argument: string): Promise<Done> {
  const codes: Readonly<Record<string, AgentErrorCode | undefined>> = { auth: 'auth', rate_limit: 'rate_limit', server: 'server' }
  return failed(agentError(codes[argument] ?? 'internal', 'It was asked to fail.'))
}

async function throwOne(): Promise<Done> {
  throw new Error('It was asked to throw.')
}

class EchoTurn {
  readonly #turn: Turn
  readonly #context: TurnContext
  readonly #script: EchoScript
  readonly #acts: Readonly<Record<string, Act | undefined>>
  #answers = 0

  constructor(turn: Turn, context: TurnContext) {
    this.#turn = turn
    this.#context = context
    this.#script = readScript(turn.prompt)
    this.#acts = {
      sleep: (argument) => this.#wait(Number(argument)),
      think: (argument) => this.#think(Number(argument)),
      write: (argument) => this.#use(writeTool(argument, turn, context)),
      shell: (argument) => this.#use(shellTool(argument, turn, context)),
      mcp: (argument) => this.#use(mcpTool(argument, turn, context)),
      skill: (argument) => this.#use(skillTool(argument, turn)),
      sub: (argument) => this.#use(subagentTool(argument, turn, context, (said, of) => this.#count(said, of))),
      ask: (argument) => this.#ask(argument),
      recall: () => this.#recall(),
      slow: () => this.#say(slowText, slowPauseMs),
      hang: () => this.#wait(),
      stall: () => this.#begin().then(() => this.#wait()),
      drop: () => this.#begin().then(() => failed(agentError('network', 'The answer was cut.'))),
      err: async (argument) => failed(providerError(Number(argument), `The script asked for ${argument}.`)),
      fail,
      throw: throwOne,
    }
  }

  async run(): Promise<TurnEnd> {
    const id = await this.#open()
    if (id === undefined) return { outcome: 'failed', error: agentError('session_not_found', 'Echo does not remember this conversation.') }
    this.#context.emit({ type: 'session.linked', native_session_id: id })
    let said = ''
    for (const step of this.#script.steps) {
      const done = await this.#step(step)
      if (done && 'end' in done) return done.end
      if (this.#context.signal.aborted) return cancelled
      said += done?.say ?? ''
    }
    return this.#answer(`${said}${this.#script.words}`.trim() || 'Done, all of it.')
  }

  /** The conversation of the turn, a new one or the earlier one; undefined when that is not known. */
  async #open(): Promise<string | undefined> {
    const { nativeSessionId, prompt } = this.#turn
    if (nativeSessionId !== undefined) return (await this.#remembered()) === undefined ? undefined : nativeSessionId
    const id = randomId()
    await this.#context.writeFile(path.join(this.#context.home, memory, id), prompt)
    return id
  }

  /** Whether there may be one answer more. */
  #mayAnswer(): boolean {
    const { maxTurns } = this.#turn
    this.#answers += 1
    return maxTurns === 0 || this.#answers <= maxTurns
  }

  async #step({ name, argument }: Step): Promise<Done> {
    const act = this.#acts[name]
    if (!act) throw new Failure('request.invalid', `${name} is no directive of echo.`)
    if (this.#script.marks.has('think')) await this.#think(0)
    return act(argument)
  }

  async #answer(text: string): Promise<TurnEnd> {
    if (!this.#mayAnswer()) return limited
    if (this.#script.marks.has('think')) await this.#think(0)
    const done = await this.#say(pieces(text, 3), this.#pauseMs)
    this.#count(text)
    return done && 'end' in done ? done.end : { outcome: 'completed', text, stopReason: 'end_turn' }
  }

  /** The tokens of one answer are its words. */
  #count(said: string, of: object = {}): void {
    const usage = { input: words(this.#turn.prompt), output: words(said), cache_read: 0, cache_write: 0, reasoning: 0 }
    this.#context.emit({ type: 'usage', scope: 'step', ...usage, ...of })
  }

  get #pauseMs(): number {
    return Number(this.#script.marks.get('delay')) || 0
  }

  /** Without a length it goes on until the run is stopped. */
  async #wait(ms?: number): Promise<Done> {
    const { signal } = this.#context
    if (!signal.aborted) await (ms === undefined ? once(signal, 'abort') : delay(ms, undefined, { signal }).catch(() => undefined))
    return signal.aborted ? { end: cancelled } : undefined
  }

  async #think(ms: number): Promise<Done> {
    this.#context.emit({ type: 'reasoning.delta', message_id: randomId(), text: 'Let me see.' })
    return this.#wait(ms)
  }

  async #say(text: readonly string[], pauseMs: number): Promise<Done> {
    const message = { message_id: randomId() }
    for (const piece of text) {
      this.#context.emit({ type: 'text.delta', ...message, text: piece })
      const stopped = pauseMs > 0 ? await this.#wait(pauseMs) : undefined
      if (stopped) return stopped
    }
    this.#context.emit({ type: 'text.done', ...message, text: text.join('') })
    return undefined
  }

  /** An answer that does not come to its end. */
  async #begin(): Promise<void> {
    const message = { message_id: randomId() }
    for (const piece of slowText.slice(0, 3)) this.#context.emit({ type: 'text.delta', ...message, text: piece })
  }

  async #ask(name: string): Promise<Done> {
    const decision = await this.#context.ask({ name: name || 'question', kind: 'other', input: { question: 'May I?' } })
    return { say: `The answer was ${decision}. ` }
  }

  #remembered(): Promise<string | undefined> {
    return this.#context.readFile(path.join(this.#context.home, memory, this.#turn.nativeSessionId ?? 'none'))
  }

  async #recall(): Promise<Done> {
    const before = await this.#remembered()
    return before === undefined ? failed(agentError('session_not_found', 'Nothing was said before.')) : { say: before }
  }

  /** One answer that ends in a call. */
  async #use({ name, kind, input, run }: EchoTool): Promise<Done> {
    if (!this.#mayAnswer()) return { end: limited }
    const { emit, ask } = this.#context
    const said = this.#script.marks.get('say')
    if (said !== undefined) await this.#say(pieces(said, 3), this.#pauseMs)
    const toolId = randomId()
    const tool = { tool_id: toolId }
    const stopped = await this.#spell({ name, kind, input }, tool)
    if (stopped) return stopped
    this.#count(JSON.stringify(input))
    const decision = this.#turn.permissionMode === 'ask' ? await ask({ toolId, name, kind, input }) : 'allow_once'
    const result = decision === 'reject' ? ({ status: 'denied' } as const) : await run(toolId)
    if (!result) return { end: cancelled }
    emit({ type: 'tool.finished', ...tool, ...result })
    return undefined
  }

  /** Tells of a call, and of its arguments as they come where the script says how. */
  async #spell({ name, kind, input }: Omit<EchoTool, 'run'>, tool: { readonly tool_id: string }): Promise<Done> {
    const { emit } = this.#context
    const { marks } = this.#script
    if (!marks.has('pieces') && !marks.has('arguments')) {
      emit({ type: 'tool.started', ...tool, name, kind, input })
      return undefined
    }
    emit({ type: 'tool.started', ...tool, name, kind, isDraft: true })
    for (const input_delta of pieces(JSON.stringify(input), Number(marks.get('pieces')) || 3)) {
      emit({ type: 'tool.updated', ...tool, input_delta })
      if (marks.get('arguments') === 'drop') return failed(agentError('network', 'The answer was cut.'))
      const stopped = await this.#wait(marks.get('arguments') === 'stall' ? undefined : this.#pauseMs)
      if (stopped) return stopped
    }
    emit({ type: 'tool.updated', ...tool, input })
    return undefined
  }
}

export const echo: Harness = {
  id: 'echo',
  label: 'Echo',
  command: undefined,
  mcp: true,
  skills: true,
  subagents: true,
  credentialEnv: [],
  hasCredentials: () => true,
  turn: (turn, context) => new EchoTurn(turn, context).run(),
}
