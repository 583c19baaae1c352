// What a prompt asks the echo harness to do: directives, one after the other, or a plan as the scripted model plays it.

export interface Step {
  readonly name: string
  readonly argument: string
}

export interface EchoScript {
  readonly steps: readonly Step[]
  /** How the steps are played. */
  readonly marks: ReadonlyMap<string, string>
  /** What is said at the end. */
  readonly words: string
}

type Marks = ReadonlyMap<string, string>

const directive = /\[\[(\w+)(?::([\s\S]*?))?\]\]/g

/** The arguments of those steps of a plan that have some. */
const argumentOf: Readonly<Record<string, ((marks: Marks) => string) | undefined>> = {
  write: (marks) => `${marks.get('file') ?? 'hello.txt'}|${marks.get('content') ?? 'hello from echo\n'}`,
  shell: (marks) => marks.get('command') ?? 'echo hello',
  mcp: (marks) => marks.get('text') ?? 'hello',
  skill: (marks) => marks.get('skillname') ?? '',
  sub: (marks) => marks.get('agentname') ?? '',
}

function stepOf(name: string, marks: Marks): Step {
  if (name === 'sleep') return { name: 'shell', argument: 'for i in $(seq 60); do echo tick $i; sleep 0.5; done' }
  const status = /^err(\d+)$/.exec(name)?.[1]
  return status ? { name: 'err', argument: status } : { name, argument: argumentOf[name]?.(marks) ?? '' }
}

export function readScript(prompt: string): EchoScript {
  const found = [...prompt.matchAll(directive)].map(([, name = '', argument = '']) => ({ name, argument }))
  const words = prompt.replaceAll(directive, '')
  const plan = found.find(({ name }) => name === 'plan')
  if (!plan) return { steps: found, marks: new Map(), words }
  const marks = new Map(found.map(({ name, argument }) => [name, argument]))
  const names = plan.argument.split(',').map((name) => name.trim())
  // The words end a turn.
  const steps = names.slice(0, names.indexOf('text') < 0 ? names.length : names.indexOf('text')).map((name) => stepOf(name, marks))
  return { steps, marks, words: marks.get('reply') ?? words }
}
