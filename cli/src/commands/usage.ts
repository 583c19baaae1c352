import { usageDimensions } from '@atoll/protocol'
import type { UsageRow } from '@atoll/sdk'
import { type Command, InvalidArgumentError } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { print, printJson, table } from '../print.ts'
import { number } from '../values.ts'

type Dimension = (typeof usageDimensions)[number]

interface UsageOptions extends GlobalOptions {
  readonly by: readonly Dimension[]
  readonly service?: number
  readonly sandbox?: string
  readonly run?: string
  readonly from?: string
  readonly to?: string
}

const columns: Readonly<Record<Dimension, (row: UsageRow) => string | number | undefined>> = {
  day: (row) => row.day,
  service: (row) => row.service_id,
  sandbox: (row) => row.sandbox_id,
  run: (row) => row.run_id,
  provider: (row) => row.provider,
  model: (row) => row.model,
}

function dimensions(text: string): Dimension[] {
  const names = text.split(',').map((name) => name.trim())
  return names.map((name) => {
    const known = usageDimensions.find((one) => one === name)
    if (known) return known
    throw new InvalidArgumentError(`Write some of ${usageDimensions.join(', ')} with commas between.`)
  })
}

export function addUsage(program: Command): void {
  program
    .command('usage')
    .description('What sandboxes have used of models: calls, tokens, cost.')
    .option('--by <what>', `what to tell apart: ${usageDimensions.join(', ')}`, dimensions, ['provider', 'model'])
    .option('--service <service>', 'only of this service', number)
    .option('--sandbox <id>', 'only of this sandbox')
    .option('--run <id>', 'only of this run of an agent')
    .option('--from <day>', 'first day, such as 2026-01-31 (UTC)')
    .option('--to <day>', 'last day')
    .addHelpText('after', example('atoll usage --by day,model --from 2026-01-01'))
    .action((_, command: Command) => usage(command.optsWithGlobals()))
}

async function usage(options: UsageOptions): Promise<void> {
  const { by, service, sandbox, run, from, to } = options
  const rows = await connect(options).usage({ by, service, sandbox, run, from, to })
  if (options.json) return printJson(rows)
  const names = usageDimensions.filter((name) => by.includes(name))
  const header = [...names.map((name) => name.toUpperCase()), 'CALLS', 'FAILED', 'INPUT', 'CACHED', 'OUTPUT', 'COST']
  print(
    table(
      header,
      rows.map((row) => [...names.map((name) => String(columns[name](row) || '-')), ...amounts(row)]),
    ),
  )
}

/** A sum that leaves something out says so. */
const amounts = (row: UsageRow): string[] => [
  String(row.requests),
  String(row.failed),
  `${row.estimated > 0 ? '~' : ''}${row.input_tokens}`,
  String(row.cached_tokens),
  `${row.estimated > 0 ? '~' : ''}${row.output_tokens}`,
  row.unpriced_tokens > 0 ? (row.cost_usd > 0 ? `>$${row.cost_usd.toFixed(4)}` : 'no price') : `$${row.cost_usd.toFixed(4)}`,
]
