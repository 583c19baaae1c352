// Commands that change a sandbox's state and say which one it was.
import type { Atoll, Sandbox } from '@atoll/sdk'
import type { Command } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { print, printFailure, printJson } from '../print.ts'
import { findSandbox } from '../reference.ts'

export function addRm(program: Command): void {
  program
    .command('rm')
    .description('End sandboxes and their disks.')
    .argument('<sandboxes...>')
    .addHelpText('after', example('atoll rm demo', 'atoll rm $(atoll ls --json | jq -r ".[].id")'))
    .action((references: string[], _, command: Command) =>
      forEach(references, command.optsWithGlobals(), async (sandbox) => {
        await sandbox.delete()
        return { deleted: true }
      }),
    )
}

export function addStop(program: Command): void {
  program
    .command('stop')
    .description('Stop sandboxes and keep their disks.')
    .argument('<sandboxes...>')
    .addHelpText('after', example('atoll stop demo'))
    .action((references: string[], _, command: Command) => forEach(references, command.optsWithGlobals(), changeTo('stop')))
}

export function addResume(program: Command): void {
  program
    .command('resume')
    .description('Start stopped sandboxes with their disks.')
    .argument('<sandboxes...>')
    .addHelpText('after', example('atoll resume demo'))
    .action((references: string[], _, command: Command) => forEach(references, command.optsWithGlobals(), changeTo('resume')))
}

const changeTo = (verb: 'stop' | 'resume') => async (sandbox: Sandbox) => {
  await sandbox[verb]()
  return { status: sandbox.info.status }
}

/** Goes on with the others when one fails, and ends with status 1 then. */
async function forEach(
  references: readonly string[],
  options: GlobalOptions,
  change: (sandbox: Sandbox) => Promise<object>,
): Promise<void> {
  const atoll = connect(options)
  const done: object[] = []
  for (const reference of references) {
    try {
      done.push(await changeOne(atoll, reference, { change, isQuiet: options.json ?? false }))
    } catch (error) {
      printFailure(error, options.json ?? false)
      process.exitCode = 1
    }
  }
  if (options.json) printJson(done)
}

async function changeOne(
  atoll: Atoll,
  reference: string,
  { change, isQuiet }: { change: (sandbox: Sandbox) => Promise<object>; isQuiet: boolean },
): Promise<object> {
  const sandbox = await findSandbox(atoll, reference)
  const result = await change(sandbox)
  if (!isQuiet) print(sandbox.id)
  return { id: sandbox.id, ...result }
}
