import { keyScopes } from '@atoll/protocol'
import type { ApiKey } from '@atoll/sdk'
import { type Command, Option } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { age, note, print, printJson, table } from '../print.ts'
import { seconds } from '../values.ts'

interface CreateOptions extends GlobalOptions {
  readonly name?: string
  readonly scope?: (typeof keyScopes)[number]
  readonly owner?: string
  readonly ttl?: number
}

export function addKeys(program: Command): void {
  const keys = program.command('keys').description("Make, list and revoke API keys, and change the operator's sealing key.")
  keys
    .command('create')
    .description('Make a key and print it. It is shown this once.')
    .option('--name <name>', 'what it is for')
    .addOption(new Option('--scope <scope>', 'what it may do').choices(keyScopes).default('owner'))
    .option('--owner <owner>', 'whose key it is; only an admin may make one for somebody else')
    .option('--ttl <time>', 'time until it expires, such as 30d; never when not given', seconds)
    .addHelpText('after', example('atoll keys create --name laptop --ttl 30d'))
    .action((_, command: Command) => create(command.optsWithGlobals()))
  keys
    .command('ls')
    .description('List your keys.')
    .addHelpText('after', example('atoll keys ls'))
    .action((_, command: Command) => list(command.optsWithGlobals()))
  keys
    .command('rm')
    .description('Revoke keys at once.')
    .argument('<ids...>')
    .addHelpText('after', example('atoll keys rm 0b6c'))
    .action((ids: string[], _, command: Command) => revoke(ids, command.optsWithGlobals()))
  keys
    .command('rotate')
    .description('Seal all secrets of the operator under a new key, and end sessions and preview links. API keys stay.')
    .addHelpText('after', example('atoll keys rotate'))
    .action((_, command: Command) => rotate(command.optsWithGlobals()))
}

async function create(options: CreateOptions): Promise<void> {
  const { name, scope, owner, ttl } = options
  const made = await connect(options).keys.create({ name, scope, owner, ttlSeconds: ttl })
  if (options.json) return printJson(made)
  print(made.key)
  note(`Key ${made.id} of ${made.owner}, scope ${made.scope}. It is not shown again.`)
}

async function list(options: GlobalOptions): Promise<void> {
  const found = await connect(options).keys.list()
  if (options.json) printJson(found)
  else print(table(['ID', 'NAME', 'SCOPE', 'OWNER', 'AGE', 'LAST USED'], found.map(row)))
}

const row = (key: ApiKey): string[] => [
  key.id,
  key.name,
  key.scope,
  key.owner,
  age(key.created_at),
  key.last_used_at === null ? 'never' : `${age(key.last_used_at)} ago`,
]

async function revoke(ids: readonly string[], options: GlobalOptions): Promise<void> {
  const { keys } = connect(options)
  for (const id of ids) {
    await keys.revoke(id)
    if (!options.json) print(id)
  }
  if (options.json) printJson(ids.map((id) => ({ id, deleted: true })))
}

async function rotate(options: GlobalOptions): Promise<void> {
  const rotated = await connect(options).keys.rotateSealingKey()
  if (options.json) return printJson(rotated)
  print(rotated.key_id)
  note(
    `${rotated.resealed} secrets are sealed under it${rotated.unreadable > 0 ? `; ${rotated.unreadable} cannot be read by any key` : ''}.`,
  )
}
