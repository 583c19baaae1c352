// Turns a step of a script into a call of one of the tools that the request offers.
import path from 'node:path'
import type { Tool } from './conversation.ts'
import type { Json } from './json.ts'
import { fillObject } from './schema.ts'

export type ToolCall =
  | { readonly tool: Tool; readonly type: 'arguments'; readonly value: Json }
  | { readonly tool: Tool; readonly type: 'freeform'; readonly value: string }
  | { readonly tool: Tool; readonly type: 'local_shell'; readonly value: readonly string[] }

export interface CallContext {
  readonly tools: readonly Tool[]
  readonly marks: ReadonlyMap<string, string>
  /** Everything that the client sent, to find the working directory and the skills that it names. */
  readonly source: string
}

const shells = /^(Bash|bash|Shell|run_shell_command|exec_command|shell|shell_command|local_shell)$/
/** Some sub-agents end by a call instead of a word. */
const finishers = /^complete_task$/
/** By step, what the tools of the known harnesses are called; the first that is offered is taken. */
const names: Readonly<Record<string, readonly RegExp[]>> = {
  write: [/^(Write|write|write_file|WriteFile|create_file)$/, /^apply_patch$/, shells, /^exec$/],
  shell: [shells, /^exec$/],
  sleep: [shells, /^exec$/],
  read: [/^(Read|read|read_file|ReadFile|view)$/, shells, /^exec$/],
  edit: [/^(Edit|edit|replace|StrReplaceFile|StrReplace)$/, /^apply_patch$/, shells, /^exec$/],
  mcp: [/^mcp_(?!.*resource)/, /echo$/i],
  sub: [/^(Task|task|Agent|spawn_agent|invoke_agent)$/],
  skill: [/^(Skill|skill|activate_skill|LoadSkill)$/, shells, /^exec$/],
  todo: [/^(TodoWrite|todowrite|update_plan|write_todos|SetTodoList|TodoList|TaskCreate)$/],
  finish: [finishers],
  ask: [/^(AskUserQuestion|question|ask_user|request_user_input|AskUser)$/],
}
export const toolSteps = Object.keys(names)

/** Agents that the harnesses bring along. */
const builtInAgents = ['general-purpose', 'generalist', 'general', 'coder', 'default']

function named(wanted: string, tools: readonly Tool[]): Tool {
  const [namespace, name] = wanted.includes('/') ? wanted.split('/', 2) : [undefined, wanted]
  const offered = tools.find((tool) => tool.name === name && (!namespace || tool.namespace === namespace))
  // Some harnesses hold tools back until they are asked for; such a one is called all the same.
  const schema = { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] }
  return offered ?? { name: name ?? wanted, namespace, kind: 'function', schema, description: '' }
}

function pick(step: string, { tools, marks }: CallContext): Tool | undefined {
  if (step.startsWith('tool=')) return named(step.slice('tool='.length), tools)
  const mcpName = marks.get('mcpname')
  if (step === 'mcp' && mcpName) return tools.find(({ name }) => name.includes(mcpName))
  const fullName = ({ name, namespace }: Tool): string => (namespace?.startsWith('mcp_') ? `${namespace}__${name}` : name)
  for (const pattern of names[step] ?? []) {
    const found = tools.find((tool) => pattern.test(fullName(tool)))
    if (found) return found
  }
  return undefined
}

/** Tools that write files want absolute paths; every harness tells the model where it works, each in its own words. */
export function workingDirectory(source: string): string {
  const told =
    /<cwd>(\/[^<]+)<\/cwd>/.exec(source) ??
    /(?:working directory(?:: | is )|workspace directories:\**\s+- )`?(\/[^\s`"'<>),]*)/i.exec(source)
  return told?.[1]?.replace(/[./]+$/, '') || '/tmp'
}

const quoted = (word: string): string => `'${word.replaceAll("'", String.raw`'\''`)}'`

interface Parts {
  readonly file: string
  readonly directory: string
  readonly content: string
  readonly command: string
  readonly patch: string
}

/** Some harnesses name the folders of skills once, and shorten the paths. */
function skillFile(skill: string, source: string): string {
  for (const { groups } of source.matchAll(/(?<root>(?<![\w\\])r\d+)?(?<file>\/[^\s)"'`]*?\/SKILL\.md)/g)) {
    const { root, file = '' } = groups ?? {}
    if (!file.endsWith(`/${skill}/SKILL.md`)) continue
    return root === undefined ? file : `${new RegExp(`\`${root}\` = \`([^\`]+)\``).exec(source)?.[1] ?? ''}${file}`
  }
  return `.agents/skills/${skill}/SKILL.md`
}

function commandOf(step: string, file: string, { marks, source }: CallContext): string {
  const given = marks.get('command')
  if (given) return given
  const content = marks.get('content') ?? defaultContent
  switch (step) {
    case 'sleep':
      return 'seq 1 60 | while read i; do echo tick $i; sleep 0.5; done'
    case 'read':
      return `cat ${quoted(file)}`
    case 'skill':
      return `cat ${quoted(skillFile(marks.get('skillname') ?? 'scripted', source))}`
    case 'edit':
      return `sed -i s/scripted/edited/ ${quoted(file)}`
    default:
      return `printf %s ${quoted(content)} > ${quoted(file)} && echo wrote ${quoted(file)}`
  }
}

const defaultContent = 'hello from the scripted model\n'

function patchOf(step: string, file: string, content: string): string {
  const lines = content.replace(/\n$/, '').split('\n')
  const added = lines.map((line) => `+${step === 'edit' ? line.replace('scripted', 'edited') : line}`)
  const head = step === 'edit' ? [`*** Update File: ${file}`, '@@', ...lines.map((line) => `-${line}`)] : [`*** Add File: ${file}`]
  return ['*** Begin Patch', ...head, ...added, '*** End Patch', ''].join('\n')
}

function partsOf(step: string, context: CallContext): Parts {
  const directory = workingDirectory(context.source)
  const given = context.marks.get('file') || 'hello.txt'
  const file = path.isAbsolute(given) ? given : path.join(directory, given)
  const content = context.marks.get('content') ?? defaultContent
  return { file, directory, content, command: commandOf(step, given, context), patch: patchOf(step, given, content) }
}

function agentOf(tool: Tool, { marks, source }: CallContext): string | undefined {
  const described = `${tool.description} ${JSON.stringify(tool.schema)}`
  const isNamed = (name: string, where: string): boolean => new RegExp(`(?<![\\w-])${name}(?![\\w-])`).test(where)
  const offered = marks.get('agentname') ?? builtInAgents.find((name) => isNamed(name, described))
  // One of them has its list elsewhere.
  return offered ?? (isNamed('generalist', source) ? 'generalist' : undefined)
}

/** What the properties of the known tools mean. */
function knownArguments(step: string, tool: Tool, parts: Parts, context: CallContext): Json {
  const { marks } = context
  const { file, content, command, patch } = parts
  const [before, after] = [marks.get('old') ?? 'scripted', marks.get('new') ?? 'edited']
  const task = `[[plan:text]] ${marks.has('find') ? `[[find:${marks.get('find')}]] ` : ''}a task for the sub-agent`
  const agent = agentOf(tool, context)
  const skill = marks.get('skillname') ?? 'scripted'
  return {
    ...{ file_path: file, filePath: file, path: file, absolute_path: file, filename: file },
    ...{ content, contents: content, file_text: content },
    // Those that start a sub-agent take a command of another kind.
    ...(step !== 'sub' && { command, cmd: command }),
    ...{ old_string: before, oldString: before, old_str: before, old: before },
    ...{ new_string: after, newString: after, new_str: after, new: after, edit: { old: before, new: after } },
    ...{ prompt: task, message: task, objective: task, task_name: 'scripted', description: 'scripted call', instruction: 'scripted' },
    ...{ subagent_type: agent, agent, agent_name: agent, agent_type: agent, subagentType: agent },
    ...{ skill, skill_name: skill, name: step === 'skill' ? skill : 'scripted', text: marks.get('text') ?? 'echo-me' },
    result: marks.get('reply') ?? 'Done.',
    input: tool.name === 'apply_patch' ? patch : 'scripted',
  }
}

export const isFinisher = ({ name }: Tool): boolean => finishers.test(name)

/** The call for a step; nothing when no offered tool can do it. */
export function callFor(step: string, context: CallContext): ToolCall | undefined {
  const tool = pick(step, context)
  if (!tool) return undefined
  const parts = partsOf(step, context)
  if (tool.kind === 'local_shell') return { tool, type: 'local_shell', value: ['bash', '-lc', parts.command] }
  if (tool.kind === 'custom') {
    if (tool.name === 'apply_patch') return { tool, type: 'freeform', value: parts.patch }
    const run = JSON.stringify({ cmd: parts.command, workdir: parts.directory })
    const value = `const r = await tools.exec_command(${run}); text(r.output ?? JSON.stringify(r));\n`
    return { tool, type: 'freeform', value }
  }
  const known = knownArguments(step, tool, parts, context)
  return { tool, type: 'arguments', value: fillObject({ type: 'object', ...tool.schema }, known) }
}
