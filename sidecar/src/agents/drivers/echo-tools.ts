// The tools of the echo harness, which do what they say.
import { once } from 'node:events'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure, type ToolKind } from '@atoll/protocol'
import { randomId } from '../../random-id.ts'
import type { HarnessEvent, Turn, TurnContext } from '../harness.ts'
import { RpcError } from './json-rpc.ts'
import { callFirstTool } from './mcp-tool.ts'

const lastOutputMs = 1000

/** What is told of a call that has ended. */
type Result = Omit<Extract<HarnessEvent, { type: 'tool.finished' }>, 'type' | 'tool_id'>

export interface EchoTool {
  readonly name: string
  readonly kind: ToolKind
  readonly input: Readonly<Record<string, unknown>>
  /** Undefined: it was ended before its time. */
  readonly run: (toolId: string) => Promise<Result | undefined>
}

export function writeTool(argument: string, { cwd }: Turn, { emit, writeFile }: TurnContext): EchoTool {
  const mark = argument.indexOf('|')
  const [file, content] = [path.resolve(cwd, argument.slice(0, mark)), argument.slice(mark + 1)]
  const run = async (tool_id: string): Promise<Result> => {
    await writeFile(file, content)
    emit({ type: 'file.changed', path: file, change: 'add', tool_id })
    return { status: 'ok' }
  }
  return { name: 'write', kind: 'edit', input: { path: file }, run }
}

export function shellTool(command: string, { cwd }: Turn, { emit, spawn, signal }: TurnContext): EchoTool {
  const run = async (tool_id: string): Promise<Result | undefined> => {
    const program = await spawn({ argv: ['/bin/sh', '-c', command], cwd })
    program.stdin.end()
    program.stderr.resume()
    let output = ''
    program.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
      emit({ type: 'tool.updated', tool_id, output_delta: text })
    })
    const ended = once(program.stdout, 'end')
    signal.addEventListener('abort', () => program.signal('SIGTERM'), { once: true })
    const exit = await program.exit
    if (exit.type !== 'exited') return undefined
    // Output may be on its way still; what the command left in the background may keep it open for ever.
    await Promise.race([ended, delay(lastOutputMs)])
    return { status: exit.code === 0 ? 'ok' : 'error', output, exit_code: exit.code }
  }
  return { name: 'shell', kind: 'shell', input: { command }, run }
}

/** Calls the first tool of the turn's first MCP server. Of servers it knows those that are programs. */
export function mcpTool(said: string, { mcpServers }: Turn, context: TurnContext): EchoTool {
  const [name = 'none', server] = Object.entries(mcpServers)[0] ?? []
  const failed = (message: string): Result => {
    if (server) context.emit({ type: 'mcp.status', name, status: 'failed', message })
    return { status: 'error', output: message }
  }
  const run = async (): Promise<Result> => {
    if (!server) return failed('The run has no MCP server.')
    if ('url' in server) return failed('Echo calls MCP servers that are programs, and none at an address.')
    try {
      const { output, isError } = await callFirstTool(context, server, said)
      context.emit({ type: 'mcp.status', name, status: 'connected' })
      return { status: isError ? 'error' : 'ok', output }
    } catch (error) {
      if (error instanceof RpcError || error instanceof Failure) return failed(error.message)
      throw error
    }
  }
  return { name: `mcp_${name}`, kind: 'mcp', input: { text: said }, run }
}

/** Loads a skill of the turn. */
export function skillTool(name: string, { skills }: Turn): EchoTool {
  const skill = Object.hasOwn(skills, name) ? skills[name] : undefined
  const result: Result = skill ? { status: 'ok', output: skill.content } : { status: 'error', output: `No skill is called ${name}.` }
  return { name: 'skill', kind: 'skill', input: { name }, run: async () => result }
}

/** A subagent of the turn, which says what it is told to be. `count` tells its tokens. */
export function subagentTool(
  name: string,
  { subagents }: Turn,
  { emit }: TurnContext,
  count: (said: string, of: object) => void,
): EchoTool {
  const subagent = Object.hasOwn(subagents, name) ? subagents[name] : undefined
  const run = async (toolId: string): Promise<Result> => {
    if (!subagent) return { status: 'error', output: `No subagent is called ${name}.` }
    const message = { message_id: randomId(), parent_tool_id: toolId, text: subagent.prompt }
    emit({ type: 'text.delta', ...message })
    emit({ type: 'text.done', ...message })
    count(subagent.prompt, { parent_tool_id: toolId })
    return { status: 'ok', output: subagent.prompt }
  }
  return { name: 'agent', kind: 'subagent', input: { name }, run }
}
