import { egressMethods, egressModes, egressPresets } from '@atoll/protocol'
import type { EgressOptions, EgressRule, SandboxEgress } from '@atoll/sdk'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { print, printJson, table } from '../print.ts'
import { findSandbox } from '../reference.ts'

type Rule = NonNullable<EgressOptions['rules']>[number]
type Preset = NonNullable<EgressOptions['presets']>[number]

interface SetOptions extends GlobalOptions {
  readonly mode?: (typeof egressModes)[number]
  readonly allow?: readonly Rule[]
  readonly preset?: readonly Preset[]
}

/** `[METHOD,METHOD ]host[:port][/path]`, added to those before it. */
function addRule(text: string, rules: readonly Rule[] = []): Rule[] {
  const [, methods, host = '', path] = /^(?:([A-Z,]+) )?([^/\s]+)(\/\S*)?$/.exec(text.trim()) ?? []
  const known = egressMethods.filter((method) => methods?.split(',').includes(method))
  if (host === '' || (methods !== undefined && known.length !== methods.split(',').length)) {
    throw new InvalidArgumentError('Write a rule such as example.com, *.example.com:8443 or "GET,HEAD api.example.com/v1".')
  }
  return [...rules, { host, ...(methods !== undefined && { methods: known }), ...(path !== undefined && { pathPrefix: path }) }]
}

function addPreset(text: string, presets: readonly Preset[] = []): Preset[] {
  const found = egressPresets.find((preset) => preset === text)
  if (!found) throw new InvalidArgumentError(`Write one of ${egressPresets.join(', ')}.`)
  return [...presets, found]
}

export function addEgress(program: Command): void {
  const egress = program.command('egress').description('What a sandbox may reach of the world.')
  egress
    .command('get')
    .description('Show what a sandbox may reach, with the rules of its presets.')
    .argument('<sandbox>')
    .addHelpText('after', example('atoll egress get demo'))
    .action((reference: string, _, command: Command) => get(reference, command.optsWithGlobals()))
  egress
    .command('set')
    .description('Replace what a sandbox may reach; connections that it allows no more are cut.')
    .argument('<sandbox>')
    .addOption(new Option('--mode <mode>', 'allowlist when something is allowed, else none').choices(egressModes))
    .option('--allow <rule>', 'a host, with methods before and a path behind it if you like; may be repeated', addRule)
    .option('--preset <preset>', `hosts of ${egressPresets.join(', ')}; may be repeated`, addPreset)
    .addHelpText('after', example('atoll egress set demo --preset npm --allow github.com --allow "GET api.example.com/v1"'))
    .action((reference: string, _, command: Command) => set(reference, command.optsWithGlobals()))
}

async function get(reference: string, options: GlobalOptions): Promise<void> {
  const sandbox = await findSandbox(connect(options), reference)
  show(await sandbox.egress.get(), options)
}

async function set(reference: string, options: SetOptions): Promise<void> {
  const { mode, allow: rules, preset: presets } = options
  if (mode === undefined && !rules && !presets) throw new InvalidArgumentError('Say what to allow, or --mode none.')
  const sandbox = await findSandbox(connect(options), reference)
  show(await sandbox.egress.set({ mode, rules, presets }), options)
}

function show(egress: SandboxEgress, { json }: GlobalOptions): void {
  if (json) {
    printJson(egress)
    return
  }
  print(egress.mode)
  const rules = egress.effective_rules
  if (egress.mode === 'allowlist' && rules.length > 0) print(table(['HOST', 'METHODS', 'PATH', 'PRESET'], rules.map(row)))
}

const row = ({ host, methods, path_prefix: path, preset }: EgressRule & { readonly preset?: string | undefined }): string[] => [
  host,
  methods?.join(',') ?? 'all',
  path ?? 'all',
  preset ?? '-',
]
