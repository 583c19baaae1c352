// Says what it was told, and does what directives in the prompt ask for. It needs no program and no model, so that every part around a
// harness can be tried without one.
//   [[sleep:ms]] [[think:ms]] [[write:path|content]] [[shell:command]] [[ask]] [[recall]] [[fail:code]] [[throw]]
import { once } from 'node:events'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type AgentErrorCode, Failure } from '@atoll/protocol'
import { randomId } from '../../random-id.ts'
import type { Harness, Turn, TurnContext, TurnEnd } from '../harness.ts'
import { agentError } from '../harness-error.ts'

const directive = /\[\[(\w+)(?::([\s\S]*?))?\]\]/g
const memory = '.cache/atoll-echo'
const lastOutputMs = 1000

/** What one directive did: the end of the turn, or something to say. */
type Done = { readonly end: TurnEnd } | { readonly say: string } | undefined
type Act = (argument: string, turn: Turn, context: TurnContext) => Promise<Done>

const cancelled: TurnEnd = { outcome: 'cancelled' }

async function sleep(argument: string, _turn: Turn, { signal }: TurnContext): Promise<Done> {
  await delay(Number(argument), undefined, { signal }).catch(() => undefined)
  return signal.aborted ? { end: cancelled } : undefined
}

async function think(argument: string, turn: Turn, context: TurnContext): Promise<Done> {
  context.emit({ type: 'reasoning.delta', message_id: randomId(), text: 'Let me see.' })
  return sleep(argument, turn, context)
}

async function write(argument: string, { cwd }: Turn, { emit, writeFile }: TurnContext): Promise<Done> {
  const mark = argument.indexOf('|')
  const file = path.resolve(cwd, argument.slice(0, mark))
  const tool = { tool_id: randomId() }
  emit({ type: 'tool.started', ...tool, name: 'write', kind: 'edit', input: { path: file } })
  await writeFile(file, argument.slice(mark + 1))
  emit({ type: 'file.changed', path: file, change: 'add', ...tool })
  emit({ type: 'tool.finished', ...tool, status: 'ok' })
  return undefined
}

async function shell(argument: string, { cwd }: Turn, { emit, spawn }: TurnContext): Promise<Done> {
  const tool = { tool_id: randomId() }
  emit({ type: 'tool.started', ...tool, name: 'shell', kind: 'shell', input: { command: argument } })
  const program = await spawn({ argv: ['/bin/sh', '-c', argument], cwd })
  program.stdin.end()
  program.stderr.resume()
  let output = ''
  program.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
    emit({ type: 'tool.updated', ...tool, output_delta: text })
  })
  const ended = once(program.stdout, 'end')
  const exit = await program.exit
  if (exit.type !== 'exited') return { end: cancelled }
  // Output may be on its way still; what the command left in the background may keep it open for ever.
  await Promise.race([ended, delay(lastOutputMs)])
  emit({ type: 'tool.finished', ...tool, status: exit.code === 0 ? 'ok' : 'error', output, exit_code: exit.code })
  return undefined
}

async function ask(argument: string, _turn: Turn, { ask: askCaller }: TurnContext): Promise<Done> {
  const decision = await askCaller({ name: argument || 'question', kind: 'other', input: { question: 'May I?' } })
  return { say: `The answer was ${decision}. ` }
}

async function recall(_argument: string, { nativeSessionId }: Turn, { home, readFile }: TurnContext): Promise<Done> {
  const before = nativeSessionId === undefined ? undefined : await readFile(path.join(home, memory, nativeSessionId))
  return before === undefined
    ? { end: { outcome: 'failed', error: agentError('session_not_found', 'Nothing was said before.') } }
    : { say: before }
}

async function fail(argument: string): Promise<Done> {
  const codes: Readonly<Record<string, AgentErrorCode | undefined>> = { auth: 'auth', rate_limit: 'rate_limit', server: 'server' }
  return { end: { outcome: 'failed', error: agentError(codes[argument] ?? 'internal', 'It was asked to fail.') } }
}

async function throwOne(): Promise<Done> {
  throw new Error('It was asked to throw.')
}

const acts: Readonly<Record<string, Act | undefined>> = { sleep, think, write, shell, ask, recall, fail, throw: throwOne }

/** The prompt without its directives, in at least three pieces. */
function pieces(text: string): readonly string[] {
  const said = text.trim() || 'Done, all of it.'
  const length = Math.max(1, Math.ceil([...said].length / 3))
  const characters = [...said]
  return [0, 1, 2].map((index) => characters.slice(index * length, (index + 1) * length).join('')).filter((piece) => piece !== '')
}

async function turn(given: Turn, context: TurnContext): Promise<TurnEnd> {
  const { emit, home, signal, writeFile } = context
  const id = given.nativeSessionId ?? randomId()
  emit({ type: 'session.linked', native_session_id: id })
  let said = ''
  for (const [whole, name = '', argument = ''] of given.prompt.matchAll(directive)) {
    const act = acts[name]
    if (!act) throw new Failure('request.invalid', `${whole} is no directive of echo.`)
    const done = await act(argument, given, context)
    if (done && 'end' in done) return done.end
    said += done?.say ?? ''
    if (signal.aborted) return cancelled
  }
  const text = `${said}${given.prompt.replaceAll(directive, '')}`
  const message = { message_id: randomId() }
  for (const piece of pieces(text)) emit({ type: 'text.delta', ...message, text: piece })
  emit({ type: 'text.done', ...message, text: pieces(text).join('') })
  const words = given.prompt.split(/\s+/).length
  emit({ type: 'usage', scope: 'step', input: words, output: text.split(/\s+/).length, cache_read: 0, cache_write: 0, reasoning: 0 })
  if (given.nativeSessionId === undefined) await writeFile(path.join(home, memory, id), given.prompt)
  return { outcome: 'completed', text: pieces(text).join(''), stopReason: 'end_turn' }
}

export const echo: Harness = {
  id: 'echo',
  label: 'Echo',
  command: undefined,
  mcp: false,
  skills: false,
  subagents: false,
  credentialEnv: [],
  hasCredentials: () => true,
  turn,
}
