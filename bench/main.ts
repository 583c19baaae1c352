// npm run bench -- create|exec|stream|terminal|agent|gateway|flood [--runtime docker|namespace] [--count N] [--json FILE]
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Atoll } from '@atoll/sdk'
import { bundle } from '../sidecar/scripts/bundle.ts'
import { startOperator } from '../tests/start-operator.ts'
import { startWithHarnesses } from '../tests/start-with-harnesses.ts'
import { benchAgent } from './agent.ts'
import { bareDocker } from './bare-docker.ts'
import { bareNamespace } from './bare-namespace.ts'
import { benchCreate } from './create.ts'
import { benchExec } from './exec.ts'
import { benchFlood } from './flood.ts'
import { benchGateway, startBenchProvider } from './gateway.ts'
import { describe } from './report.ts'
import { benchStream } from './stream.ts'
import { benchTerminal } from './terminal.ts'

const provider = await startBenchProvider()
const benches = {
  create: { run: benchCreate, count: 15 },
  exec: { run: benchExec, count: 60 },
  stream: { run: benchStream, count: 3 },
  terminal: { run: benchTerminal, count: 200 },
  agent: { run: benchAgent, count: 5 },
  gateway: { run: benchGateway(provider.port), count: 100 },
  flood: { run: benchFlood(provider.port), count: 1000 },
} as const
const bares = { docker: bareDocker, namespace: bareNamespace } as const

const usage = `Usage: npm run bench -- ${Object.keys(benches).join('|')} [--runtime ${Object.keys(bares).join('|')}] [--count N] [--json FILE]
Measures Atoll beside the raw lower bound in the same run. The ratio is what counts; times differ from machine to machine.`

const has = <Table extends object>(table: Table, name: string | undefined): name is keyof Table & string =>
  name !== undefined && Object.hasOwn(table, name)

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      runtime: { type: 'string', default: 'namespace' },
      count: { type: 'string' },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  const [name] = positionals
  const { runtime } = values
  const count = Number(values.count ?? (has(benches, name) ? benches[name].count : 1))
  if (values.help || !has(benches, name) || !has(bares, runtime) || !Number.isInteger(count) || count < 1) {
    console.error(usage)
    return values.help ? 0 : 2
  }
  await bundle()
  await using operator =
    name === 'agent'
      ? await startWithHarnesses(runtime)
      : await startOperator({ runtime, env: { ATOLL_TRUSTED_UPSTREAMS: `127.0.0.1:${provider.port}` } })
  const ready = await operator.call('GET', '/readyz')
  if (ready.status !== 200) {
    console.error(`The runtime ${runtime} is not ready here: ${ready.text}`)
    return 1
  }
  const progress = (done: number, of: number): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r${done}/${of}${done === of ? '\n' : ''}`)
  }
  const atoll = new Atoll({ url: operator.url, apiKey: operator.adminKey })
  const report = await benches[name].run({ atoll, runtime, bare: bares[runtime], count, progress })
  console.log(describe(report))
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ ...report, at: new Date().toISOString() }, null, 2)}\n`)
  return 0
}

process.exitCode = await main()
provider.close()
