import { serviceModes } from '@atoll/protocol'
import type { Quotas, Service } from '@atoll/sdk'
import { type Command, Option } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { age, print, printJson, table } from '../print.ts'
import { gigabytes, megabytes, number, serviceReference } from '../values.ts'

interface ChangeOptions extends GlobalOptions {
  readonly name?: string
  readonly member?: readonly string[]
  /** False: `--no-members`. */
  readonly members?: boolean
  readonly sandboxes?: number
  readonly cpu?: number
  readonly memory?: number
  readonly disk?: number
  readonly runs?: number
  readonly requests?: number
  readonly tokens?: number
  readonly spend?: number
}

interface CreateOptions extends ChangeOptions {
  readonly owner?: string
  readonly mode?: (typeof serviceModes)[number]
}

const addMember = (name: string, members: readonly string[] = []): string[] => [...members, name]

/** What a new service has and an old one can get. */
const withSettings = (command: Command): Command =>
  command
    .option('--member <owner>', 'an owner who may make sandboxes in it; may be repeated', addMember)
    .option('--sandboxes <count>', 'sandboxes that it may have; 0 is no limit, as with all of these', number)
    .option('--cpu <cores>', 'processor cores that its running sandboxes may have together', number)
    .option('--memory <size>', 'memory that they may have together, such as 8g', megabytes)
    .option('--disk <size>', 'disk that all its sandboxes may have together, such as 100g', gigabytes)
    .option('--runs <count>', 'runs of agents at once, those that wait included', number)
    .option('--requests <count>', 'calls of models in a day (UTC)', number)
    .option('--tokens <count>', 'tokens of models in a day (UTC)', number)
    .option('--spend <dollars>', 'US dollars for models in a day (UTC)', number)

export function addService(program: Command): void {
  const service = program
    .command('service')
    .description('Tenants: who shares sandboxes, quotas and provider keys. One is there from the start.')
  withSettings(service.command('create').description('Make a service and print its number. Needs an admin key.').argument('<name>'))
    .option('--owner <owner>', 'whose it is; you when not given')
    .addOption(new Option('--mode <mode>', 'many sandboxes, or one').choices(serviceModes).default('cloud'))
    .addHelpText('after', example('atoll service create lab --owner ann --member bob --sandboxes 10 --memory 16g'))
    .action((name: string, _, command: Command) => create(name, command.optsWithGlobals()))
  service
    .command('ls')
    .description('List the services that you own or are a member of.')
    .addHelpText('after', example('atoll service ls'))
    .action((_, command: Command) => list(command.optsWithGlobals()))
  withSettings(
    service
      .command('set')
      .description('Change a service. Its members are replaced by those given.')
      .argument('<service>', '', serviceReference),
  )
    .option('--name <name>', 'what it is called')
    .option('--no-members', 'nobody but its owner')
    .addHelpText('after', example('atoll service set 2 --member bob --member eve --sandboxes 5'))
    .action((reference: number | 'default', _, command: Command) => change(reference, command.optsWithGlobals()))
  service
    .command('rm')
    .description('Remove services that have no sandboxes, and their provider keys. Needs an admin key.')
    .argument('<services...>', '', (text: string, before: number[] = []) => [...before, number(text)])
    .addHelpText('after', example('atoll service rm 2'))
    .action((ids: number[], _, command: Command) => remove(ids, command.optsWithGlobals()))
}

const quotasOf = (options: ChangeOptions): Quotas => ({
  sandboxes: options.sandboxes,
  cpuCores: options.cpu,
  memoryMb: options.memory,
  diskGb: options.disk,
  runs: options.runs,
  requestsPerDay: options.requests,
  tokensPerDay: options.tokens,
  spendPerDayUsd: options.spend,
})

async function create(name: string, options: CreateOptions): Promise<void> {
  const { owner, mode, member } = options
  const made = await connect(options).services.create({ name, owner, mode, members: member, quotas: quotasOf(options) })
  if (options.json) printJson(made)
  else print(String(made.id))
}

async function list(options: GlobalOptions): Promise<void> {
  const found = await connect(options).services.list()
  if (options.json) printJson(found)
  else print(table(['ID', 'NAME', 'OWNER', 'MODE', 'MEMBERS', 'AGE', 'QUOTAS'], found.map(row)))
}

async function change(reference: number | 'default', options: ChangeOptions): Promise<void> {
  const members = options.members === false ? [] : options.member
  const changed = await connect(options).services.update(reference, { name: options.name, members, quotas: quotasOf(options) })
  if (options.json) printJson(changed)
  else print(String(changed.id))
}

async function remove(ids: readonly number[], options: GlobalOptions): Promise<void> {
  const { services } = connect(options)
  for (const id of ids) {
    await services.remove(id)
    if (!options.json) print(String(id))
  }
  if (options.json) printJson(ids.map((id) => ({ id, deleted: true })))
}

const row = ({ id, name, owner, mode, members, is_default: isDefault, created_at: createdAt, quotas }: Service): string[] => [
  String(id),
  name,
  isDefault ? `${owner} (default)` : owner,
  mode,
  members.join(',') || '-',
  age(createdAt),
  Object.entries(quotas)
    .filter(([, most]) => most > 0)
    .map(([what, most]) => `${what}=${most}`)
    .join(',') || 'none',
]
