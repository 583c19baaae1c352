import type { SnapshotInfo } from '@atoll/sdk'
import type { Command } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { age, print, printJson, table } from '../print.ts'
import { findSandbox, pick } from '../reference.ts'
import { addPair, envFile, gigabytes, megabytes, number } from '../values.ts'

export function addSnapshot(program: Command): void {
  const snapshot = program.command('snapshot').description('Keep the disks of sandboxes as they are at one moment.')
  snapshot
    .command('create')
    .description('Keep the disk of a sandbox, wait until that is done, and print the id of the snapshot.')
    .argument('<sandbox>')
    .option('--name <name>', 'a name for people')
    .option('--idempotency-key <key>', 'the same key again gives the same snapshot')
    .addHelpText('after', example('atoll snapshot create demo --name before-the-upgrade'))
    .action((reference: string, _, command: Command) => create(reference, command.optsWithGlobals()))
  snapshot
    .command('ls')
    .description('List snapshots, newest first.')
    .option('--sandbox <sandbox>', 'only those of this one')
    .addHelpText('after', example('atoll snapshot ls --sandbox demo'))
    .action((_, command: Command) => list(command.optsWithGlobals()))
  snapshot
    .command('rm')
    .description('Forget snapshots; sandboxes made from them stay.')
    .argument('<snapshots...>', 'ids, beginnings of ids, or names')
    .addHelpText('after', example('atoll snapshot rm before-the-upgrade'))
    .action((references: string[], _, command: Command) => remove(references, command.optsWithGlobals()))
}

interface CreateOptions extends GlobalOptions {
  readonly name?: string
  readonly idempotencyKey?: string
}

async function create(reference: string, { name, idempotencyKey, ...options }: CreateOptions): Promise<void> {
  const sandbox = await findSandbox(connect(options), reference)
  const made = await sandbox.snapshot({ name, idempotencyKey })
  if (options.json) printJson(made)
  else print(made.id)
}

async function all(options: GlobalOptions, sandboxId?: string): Promise<SnapshotInfo[]> {
  const found: SnapshotInfo[] = []
  for await (const one of connect(options).snapshots.list({ sandboxId, pageSize: 500 })) found.push(one)
  return found
}

async function list(options: GlobalOptions & { readonly sandbox?: string }): Promise<void> {
  const sandboxId = options.sandbox === undefined ? undefined : (await findSandbox(connect(options), options.sandbox)).id
  const found = await all(options, sandboxId)
  if (options.json) return printJson(found)
  const rows = found.map((one) => [
    one.id,
    one.name === one.id ? '' : one.name,
    one.state === 'creating' ? `${one.progress_pct}%` : one.state,
    `${(one.size_bytes / 1_048_576).toFixed(1)} MB`,
    age(one.created_at),
    one.sandbox_id,
  ])
  print(table(['ID', 'NAME', 'STATE', 'SIZE', 'AGE', 'SANDBOX'], rows))
}

async function remove(references: readonly string[], options: GlobalOptions): Promise<void> {
  const known = await all(options)
  const ids = references.map((reference) => (isFullId(reference) ? reference : pick(reference, known).id))
  for (const id of ids) {
    await connect(options).snapshots.delete(id)
    if (!options.json) print(id)
  }
  if (options.json) printJson(ids.map((id) => ({ id, deleted: true })))
}

const isFullId = (reference: string): boolean => /^snapshot-[0-9a-f-]{36}$/.test(reference)

interface ForkOptions extends GlobalOptions {
  readonly count?: number
  readonly name?: string
  readonly memory?: number
  readonly disk?: number
  readonly cpu?: number
  readonly env?: Record<string, string>
  readonly envFile?: Record<string, string>
}

export function addFork(program: Command): void {
  program
    .command('fork')
    .description('Make new sandboxes with the disk that a sandbox has now, all or none, and print their ids.')
    .argument('<sandbox>')
    .option('-n, --count <number>', 'how many, at most 16; 1 when not given', number)
    .option('--name <name>', 'a name for people; of several, each gets its number too')
    .option('--cpu <cores>', 'processor cores; as many as it has when not given', number)
    .option('--memory <size>', 'memory, such as 512m or 2g; as much as it has when not given', megabytes)
    .option('--disk <size>', 'disk, such as 10g, and not less than it has', gigabytes)
    .option('--env <KEY=VALUE>', 'an environment variable: none is taken along; may be repeated', addPair)
    .option('--env-file <file>', 'a file of environment variables', envFile)
    .addHelpText('after', example('atoll fork demo -n 3 --name try'))
    .action((reference: string, _, command: Command) => fork(reference, command.optsWithGlobals()))
}

async function fork(reference: string, options: ForkOptions): Promise<void> {
  const { count, name, cpu, memory, disk, env, envFile: fromFile } = options
  const sandbox = await findSandbox(connect(options), reference)
  const made = await sandbox.fork(count ?? 1, { name, cpuCores: cpu, memoryMb: memory, diskGb: disk, env: { ...fromFile, ...env } })
  if (options.json) printJson(made.map(({ info }) => info))
  else for (const { id } of made) print(id)
}
