import { text as textOf } from 'node:stream/consumers'
import type { ProviderKey, ServiceReference } from '@atoll/sdk'
import { type Command, InvalidArgumentError } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { age, note, print, printJson, table } from '../print.ts'
import { serviceReference } from '../values.ts'

interface ServiceOptions extends GlobalOptions {
  readonly service?: ServiceReference
}

interface SetOptions extends ServiceOptions {
  readonly baseUrl?: string
  readonly like?: string
  readonly model?: readonly string[]
}

const addModel = (name: string, models: readonly string[] = []): string[] => [...models, name]

const withService = (command: Command): Command =>
  command.option('--service <service>', 'the service it belongs to; your default one when not given', serviceReference)

export function addProviderKey(program: Command): void {
  const keys = program.command('provider-key').description('Keys of model providers, which stay in the operator and are never shown again.')
  withService(
    keys.command('set').description('Set or replace the key of a provider; it is read from standard input.').argument('<provider>'),
  )
    .option('--model <model>', 'a model that sandboxes may ask for, * for anything; may be repeated', addModel)
    .option('--base-url <url>', 'where a provider called custom:<name> is')
    .option('--like <provider>', 'the provider whose API a custom one speaks')
    .addHelpText('after', example('atoll provider-key set anthropic < key.txt'))
    .action((provider: string, _, command: Command) => set(provider, command.optsWithGlobals()))
  withService(keys.command('ls').description('List what is known of the keys.'))
    .addHelpText('after', example('atoll provider-key ls'))
    .action((_, command: Command) => list(command.optsWithGlobals()))
  withService(keys.command('rm').description('Remove the keys of providers.').argument('<providers...>'))
    .addHelpText('after', example('atoll provider-key rm anthropic'))
    .action((providers: string[], _, command: Command) => remove(providers, command.optsWithGlobals()))
}

/** Not an argument: those of a process are for everybody to see. */
async function set(provider: string, options: SetOptions): Promise<void> {
  if (process.stdin.isTTY) note(`Type the key of ${provider}, then Enter and Ctrl-D.`)
  const key = (await textOf(process.stdin)).trim()
  if (key === '') throw new InvalidArgumentError('No key came on standard input. Write: atoll provider-key set <provider> < file')
  const { model: models, baseUrl, like, service } = options
  const known = await connect(options).services.providerKeys(service).set(provider, key, { models, baseUrl, like })
  if (options.json) printJson(known)
  else print(known.provider)
}

async function list(options: ServiceOptions): Promise<void> {
  const found = await connect(options).services.providerKeys(options.service).list()
  if (options.json) printJson(found)
  else print(table(['PROVIDER', 'KEY', 'AGE', 'LAST USED', 'ADDRESS'], found.map(row)))
}

const row = (key: ProviderKey): string[] => [
  key.provider,
  `…${key.last_four}`,
  age(key.created_at),
  key.last_used_at === null ? 'never' : `${age(key.last_used_at)} ago`,
  key.base_url,
]

async function remove(providers: readonly string[], options: ServiceOptions): Promise<void> {
  const keys = connect(options).services.providerKeys(options.service)
  for (const provider of providers) {
    await keys.remove(provider)
    if (!options.json) print(provider)
  }
  if (options.json) printJson(providers.map((provider) => ({ provider, deleted: true })))
}
