import type { AgentEvent, AgentRun, AgentRunInfo } from '@atoll/sdk'
import type { Command } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { note, print, printJson, table } from '../print.ts'
import { findSandbox } from '../reference.ts'
import { addPair, number, seconds } from '../values.ts'

interface PromptOptions extends GlobalOptions {
  readonly harness?: string
  readonly model?: string
  readonly session?: string
  readonly system?: string
  readonly maxTurns?: number
  readonly timeout?: number
  readonly env?: Record<string, string>
}

export function addAgent(program: Command): void {
  const agent = program.command('agent').description('Give prompts to the agents of a sandbox.')
  agent
    .command('ls')
    .description('List the harnesses of a sandbox.')
    .argument('<sandbox>')
    .addHelpText('after', example('atoll agent ls demo'))
    .action((reference: string, _, command: Command) => list(reference, command.optsWithGlobals()))
  agent
    .command('prompt')
    .description('Give an agent a prompt and show what it does; ends with status 0 when it completed, 130 after Ctrl-C, which cancels it.')
    .argument('<sandbox>')
    .argument('<prompt...>', 'the prompt; - reads it from standard input')
    .option('--harness <id>', "which agent, or acp:<command>; the image's own choice when not given")
    .option('--model <name>', 'which model')
    .option('--session <id>', 'go on with an earlier session')
    .option('--system <text>', 'a system prompt')
    .option('--max-turns <number>', 'answers of the model at most', number)
    .option('--timeout <time>', 'time after which it is cancelled, such as 10m', seconds)
    .option('--env <KEY=VALUE>', 'an environment variable of the agent; may be repeated', addPair)
    .addHelpText('after', example('atoll agent prompt demo "add a test for parse()"', 'git diff | atoll agent prompt demo -'))
    .action((reference: string, words: string[], _, command: Command) => prompt(reference, words, command.optsWithGlobals()))
}

async function list(reference: string, options: GlobalOptions): Promise<void> {
  const sandbox = await findSandbox(connect(options), reference)
  const harnesses = await sandbox.agents.list()
  if (options.json) return printJson(harnesses)
  const rows = harnesses.map((one) => [
    one.id + (one.is_default ? ' (default)' : ''),
    one.version ?? '',
    one.credentials_available ? 'yes' : 'no',
  ])
  print(table(['HARNESS', 'VERSION', 'CREDENTIALS'], rows))
}

async function prompt(reference: string, words: readonly string[], options: PromptOptions): Promise<void> {
  const sandbox = await findSandbox(connect(options), reference)
  const text = words.length === 1 && words[0] === '-' ? await readInput() : words.join(' ')
  const starting = sandbox.agents.start(text, {
    harness: options.harness,
    model: options.model,
    sessionId: options.session,
    systemPrompt: options.system,
    maxTurns: options.maxTurns,
    timeoutMs: options.timeout === undefined ? undefined : options.timeout * 1000,
    env: options.env,
  })
  const interruption = cancelWhenInterrupted(starting)
  try {
    const run = await starting
    for await (const event of run.events()) {
      if (options.json) process.stdout.write(`${JSON.stringify(event)}\n`)
      else show(event)
    }
    finish(await run.refresh(), options)
    if (await interruption.hasCancelled()) process.exitCode = 130
  } finally {
    interruption.release()
  }
}

interface Interruption {
  hasCancelled(): Promise<boolean>
  release(): void
}

/** The first Ctrl-C cancels the run, whose end is then shown as any other; the second ends this program at once. */
function cancelWhenInterrupted(starting: Promise<AgentRun>): Interruption {
  let cancelling: Promise<unknown> | undefined
  const cancel = (): void => {
    cancelling = starting.then((run) => run.cancel())
    cancelling.catch((error: unknown) => {
      note(`atoll: the run could not be cancelled: ${error instanceof Error ? error.message : error}`)
      process.exit(130)
    })
  }
  process.once('SIGINT', cancel)
  return {
    hasCancelled: async () => (await cancelling) !== undefined,
    release: () => process.off('SIGINT', cancel),
  }
}

async function readInput(): Promise<string> {
  let text = ''
  process.stdin.setEncoding('utf8')
  for await (const chunk of process.stdin) text += chunk
  return text
}

/** The answer goes to standard output, what else happens to standard error. */
function show(event: AgentEvent): void {
  if (event.type === 'text.delta') process.stdout.write(event.text)
  if (event.type === 'text.done') process.stdout.write('\n')
  if (event.type === 'tool.started') note(`⏺ ${event.title ?? event.name}`)
  if (event.type === 'file.changed') note(`  ${event.change} ${event.path}`)
  if (event.type === 'retry' || event.type === 'warning') note(`  ${event.message}`)
}

function finish(run: AgentRunInfo, options: GlobalOptions): void {
  const isDone = run.outcome === 'completed'
  if (!options.json) {
    if (run.error) note(`atoll: ${run.error.message} (${run.error.code})`)
    else if (!isDone) note(`atoll: the run ended: ${run.outcome ?? run.state}`)
    note(`session ${run.session_id}`)
  }
  process.exitCode = isDone ? 0 : 1
}
