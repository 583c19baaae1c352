// What a sandbox that opens thousands of connections to the gateway does to the model calls of another one.
import { Failure, type Sandbox } from '@atoll/sdk'
import { client } from './gateway-client.ts'
import { report, row } from './report.ts'
import type { Bench } from './subject.ts'

/** Opens connections as fast as it can: some say nothing, some begin a request and stop, some send nonsense. Prints how many. */
const flood = `
import net from 'node:net'
let opened = 0
const until = Date.now() + Number(process.argv[2])
const says = ['', 'POST /custom:bench/chat/completions HTTP/1.1\\r\\nhost: x\\r\\n', 'nonsense\\r\\n\\r\\n']
const one = (turn) => {
  if (Date.now() > until) return
  const socket = net.connect(7077, '127.0.0.1')
  socket.on('connect', () => { opened += 1; socket.write(says[turn % says.length]); setTimeout(() => socket.destroy(), 20) })
  socket.on('error', () => undefined)
  socket.on('close', () => setImmediate(one, turn + 1))
}
for (let n = 0; n < 300; n++) one(n)
setTimeout(() => { console.log(opened); process.exit() }, Number(process.argv[2]) + 200)
`

const events = 1
const floodMs = 12_000

async function calls(sandbox: Sandbox, count: number): Promise<number[]> {
  const base = 'http://127.0.0.1:7077/custom:bench'
  const { stdout, stderr, exitCode } = await sandbox.run(['/opt/atoll/node', 'client.mjs', base, 'calls', String(count), String(events)])
  if (exitCode !== 0) throw new Failure('internal', `The client in the sandbox failed: ${stderr}`)
  return (JSON.parse(stdout) as { wholeMs: number }[]).map(({ wholeMs }) => wholeMs)
}

export const benchFlood =
  (port: number): Bench =>
  async ({ atoll, runtime, count, progress }) => {
    await atoll.services.providerKeys().set('custom:bench', 'sk-bench-0000', { baseUrl: `http://127.0.0.1:${port}`, like: 'openai' })
    await using neighbour = await atoll.sandboxes.create({ memoryMb: 512, cpuCores: 0.5, runtime })
    await using sandbox = await atoll.sandboxes.create({ memoryMb: 512, runtime })
    await sandbox.files.write('client.mjs', client)
    await neighbour.files.write('flood.mjs', flood)
    await calls(sandbox, 20)
    const quiet = await calls(sandbox, count)
    progress(1, 2)
    const flooding = neighbour.run(['/opt/atoll/node', 'flood.mjs', String(floodMs)])
    const during: number[] = []
    let isOver = false
    const { stdout } = await Promise.race([
      flooding.finally(() => {
        isOver = true
      }),
      (async () => {
        while (!isOver) during.push(...(await calls(sandbox, 50)))
        return flooding
      })(),
    ])
    progress(2, 2)
    const rows = [row('alone: a model call', quiet), row(`beside ${stdout.trim()} connections of a neighbour`, during)]
    return report({
      bench: 'flood',
      runtime,
      count,
      rows,
      ratio: { of: 'p99 beside the flood over p99 alone', value: (rows[1]?.p99 ?? Number.NaN) / (rows[0]?.p99 ?? Number.NaN) },
    })
  }
