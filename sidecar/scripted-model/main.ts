// The scripted model server as a program: `main.ts [--port N] [--host ADDRESS]` prints its URL and serves until it is told to end.
import { parseArgs } from 'node:util'
import { startScriptedModel } from './server.ts'

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' }, host: { type: 'string', default: '127.0.0.1' } } })
const model = await startScriptedModel({ port: Number(values.port), host: values.host })
process.stdout.write(`${model.url}\n`)
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void model.close())
