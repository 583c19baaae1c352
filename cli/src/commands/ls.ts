import { sandboxStates } from '@atoll/protocol'
import type { SandboxInfo, SandboxStatus } from '@atoll/sdk'
import { type Command, InvalidArgumentError } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { age, note, print, printJson, table } from '../print.ts'
import { addPair } from '../values.ts'

interface LsOptions extends GlobalOptions {
  readonly state?: readonly SandboxStatus[]
  readonly metadata?: Record<string, string>
}

export function addLs(program: Command): void {
  program
    .command('ls')
    .description('List your sandboxes, newest first; ended ones only when asked for.')
    .option('--state <states>', `a comma list of ${sandboxStates.join(', ')}`, states)
    .option('--metadata <KEY=VALUE>', 'only those with this mark; may be repeated', addPair)
    .addHelpText('after', example('atoll ls --state running', 'atoll ls --json'))
    .action((_, command: Command) => ls(command.optsWithGlobals()))
}

function states(text: string): SandboxStatus[] {
  return text.split(',').map((name) => {
    const state = sandboxStates.find((known) => known === name.trim())
    if (!state) throw new InvalidArgumentError(`States are ${sandboxStates.join(', ')}.`)
    return state
  })
}

async function ls(options: LsOptions): Promise<void> {
  const found: SandboxInfo[] = []
  for await (const { info } of connect(options).sandboxes.list({ state: options.state, metadata: options.metadata })) found.push(info)
  if (options.json) return printJson(found)
  if (found.length === 0) return note('No sandboxes. Make one with: atoll create')
  print(table(['ID', 'NAME', 'STATE', 'RUNTIME', 'IMAGE', 'AGE'], found.map(row)))
}

const row = (info: SandboxInfo): string[] => [
  info.id,
  info.name === info.id ? '' : info.name,
  info.end ? `ended (${info.end.reason})` : info.status,
  info.runtime,
  info.image,
  age(info.created_at),
]
