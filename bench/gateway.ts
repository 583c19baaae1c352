// What the gateway adds to a streamed model call, beside the same calls of the same provider made directly.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { Failure } from '@atoll/sdk'
import { client } from './gateway-client.ts'
import { difference, percentile, report, row } from './report.ts'
import type { Bench } from './subject.ts'

/** A model that says something every few milliseconds. */
const eventMs = 3
const event = `data: ${JSON.stringify({ id: 'chatcmpl-bench', choices: [{ index: 0, delta: { content: 'some words' } }] })}\n\n`
const last = `data: ${JSON.stringify({ model: 'bench', choices: [], usage: { prompt_tokens: 100, completion_tokens: 100 } })}\n\ndata: [DONE]\n\n`

const oneCallEvents = 20
const parallel = 16
const streamEvents = 600

/** `/calls/…?n=20` streams so many events. */
export async function startBenchProvider(): Promise<{ readonly port: number; close(): void }> {
  const server = http.createServer((request, response) => {
    const count = Number(new URL(request.url ?? '/', 'http://x').searchParams.get('n') ?? oneCallEvents)
    request.resume()
    request.once('end', () => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(event)
      let sent = 1
      const timer = setInterval(() => {
        sent += 1
        if (sent < count) return void response.write(event)
        clearInterval(timer)
        response.end(last)
      }, eventMs)
      response.once('close', () => clearInterval(timer))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

interface Call {
  readonly firstMs: number
  readonly wholeMs: number
}

/** The provider is the one that the operator was told to trust. */
export const benchGateway =
  (port: number): Bench =>
  async ({ atoll, runtime, count, progress }) => {
    await atoll.services.providerKeys().set('custom:bench', 'sk-bench-0000', { baseUrl: `http://127.0.0.1:${port}`, like: 'openai' })
    await using sandbox = await atoll.sandboxes.create({ memoryMb: 512, runtime })
    await sandbox.files.write('client.mjs', client)
    const file = path.join(os.tmpdir(), 'atoll-bench-client.mjs')
    writeFileSync(file, client)
    const inside = async (...args: (string | number)[]): Promise<unknown> => {
      const { stdout, stderr, exitCode } = await sandbox.run([
        '/opt/atoll/node',
        'client.mjs',
        'http://127.0.0.1:7077/custom:bench',
        ...args.map(String),
      ])
      if (exitCode !== 0) throw new Failure('internal', `The client in the sandbox failed: ${stderr}`)
      return JSON.parse(stdout)
    }
    const directly = async (...args: (string | number)[]): Promise<unknown> => {
      const { stdout } = await promisify(execFile)(process.execPath, [file, `http://127.0.0.1:${port}`, ...args.map(String)], {
        maxBuffer: 1 << 26,
      })
      return JSON.parse(stdout)
    }
    const ours: Call[] = []
    const theirs: Call[] = []
    const rates: { ours: number[]; theirs: number[] } = { ours: [], theirs: [] }
    const rounds = 5
    for (let round = 0; round < rounds; round++) {
      ours.push(...((await inside('calls', count, oneCallEvents)) as Call[]))
      theirs.push(...((await directly('calls', count, oneCallEvents)) as Call[]))
      rates.ours.push((await inside('streams', parallel, streamEvents)) as number)
      rates.theirs.push((await directly('streams', parallel, streamEvents)) as number)
      progress(round + 1, rounds)
    }
    const first = {
      ours: row(
        'Atoll: first byte',
        ours.map(({ firstMs }) => firstMs),
      ),
      theirs: row(
        'directly: first byte',
        theirs.map(({ firstMs }) => firstMs),
      ),
    }
    const whole = {
      ours: row(
        'Atoll: whole call',
        ours.map(({ wholeMs }) => wholeMs),
      ),
      theirs: row(
        'directly: whole call',
        theirs.map(({ wholeMs }) => wholeMs),
      ),
    }
    return report({
      bench: 'gateway',
      runtime,
      count: ours.length,
      rows: [
        ...[first.ours, first.theirs, difference('added to the first byte', first.ours, first.theirs)],
        ...[whole.ours, whole.theirs, difference('added to the whole call', whole.ours, whole.theirs)],
        row(`Atoll: ${parallel} streams at once`, rates.ours, 'events/s'),
        row(`directly: ${parallel} streams at once`, rates.theirs, 'events/s'),
      ],
      ratio: {
        of: 'events a second through Atoll over directly (p50)',
        value: percentile(rates.ours, 0.5) / percentile(rates.theirs, 0.5),
      },
    })
  }
