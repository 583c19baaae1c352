// Commands that change a sandbox's state and say which one it was.
import type { Atoll, Sandbox, SandboxUpdate } from '@atoll/sdk'
import { type Command, Option } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { print, printFailure, printJson } from '../print.ts'
import { findSandbox } from '../reference.ts'
import { seconds } from '../values.ts'

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

export function addPause(program: Command): void {
  program
    .command('pause')
    .description('Freeze sandboxes with their processes and memory.')
    .argument('<sandboxes...>')
    .addHelpText('after', example('atoll pause demo'))
    .action((references: string[], _, command: Command) => forEach(references, command.optsWithGlobals(), changeTo('pause')))
}

export function addSet(program: Command): void {
  program
    .command('set')
    .description('Change the name of a sandbox, its times, or what becomes of it when it is idle.')
    .argument('<sandbox>')
    .option('--name <name>', 'a name for people')
    .option('--idle-timeout <time>', 'time without use after which it is stopped or paused, such as 30m', seconds)
    .option('--lifetime <time>', 'time from its creation after which it is ended, such as 2h', seconds)
    .option('--extend <time>', 'time to add to its lifetime', seconds)
    .addOption(new Option('--idle-action <action>', 'what becomes of it when it is idle').choices(['stop', 'pause']))
    .option('--auto-resume', 'resume it when it is used')
    .option('--no-auto-resume', 'do not resume it when it is used')
    .addHelpText('after', example('atoll set demo --extend 2h --idle-action pause --auto-resume'))
    .action((reference: string, _, command: Command) => set(reference, command.optsWithGlobals()))
}

interface SetOptions extends GlobalOptions, Pick<SandboxUpdate, 'name' | 'idleAction' | 'autoResume'> {
  readonly idleTimeout?: number
  readonly lifetime?: number
  readonly extend?: number
}

const set = (reference: string, options: SetOptions): Promise<void> =>
  forEach([reference], options, async (sandbox) => {
    const { name, idleAction, autoResume, idleTimeout, lifetime, extend } = options
    await sandbox.update({
      name,
      idleAction,
      autoResume,
      idleTimeoutSeconds: idleTimeout,
      maxLifetimeSeconds: lifetime,
      extendSeconds: extend,
    })
    return { idle_timeout_seconds: sandbox.info.idle_timeout_seconds, max_lifetime_seconds: sandbox.info.max_lifetime_seconds }
  })

export function addResume(program: Command): void {
  program
    .command('resume')
    .description('Let paused sandboxes go on, and start stopped ones with their disks.')
    .argument('<sandboxes...>')
    .addHelpText('after', example('atoll resume demo'))
    .action((references: string[], _, command: Command) => forEach(references, command.optsWithGlobals(), changeTo('resume')))
}

const changeTo = (verb: 'stop' | 'pause' | 'resume') => async (sandbox: Sandbox) => {
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
