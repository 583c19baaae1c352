import type { Exit, ProcessInfo } from '@atoll/sdk'
import type { Command } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { age, print, printJson, table } from '../print.ts'
import { findSandbox } from '../reference.ts'

export function addPs(program: Command): void {
  program
    .command('ps')
    .description('List the processes that were started in a sandbox, running and ended.')
    .argument('<sandbox>')
    .addHelpText('after', example('atoll ps demo'))
    .action((reference: string, _, command: Command) => ps(reference, command.optsWithGlobals()))
}

async function ps(reference: string, options: GlobalOptions): Promise<void> {
  const sandbox = await findSandbox(connect(options), reference)
  const found = (await sandbox.processes.list()).map(({ info }) => info)
  if (options.json) printJson(found)
  else print(table(['ID', 'PID', 'STATE', 'STARTED', 'COMMAND'], found.map(row)))
}

const row = (info: ProcessInfo): string[] => [
  info.id,
  info.pid === null ? '' : String(info.pid),
  info.exit ? describeExit(info.exit) : 'running',
  `${age(info.started_at / 1000)} ago`,
  info.argv.join(' ').replaceAll('\n', ' ').slice(0, 120),
]

function describeExit(exit: Exit): string {
  if (exit.type === 'exited') return `exited ${exit.code}`
  return exit.type === 'signalled' ? exit.signal : `lost: ${exit.reason}`
}
