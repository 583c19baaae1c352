// Calls and streams against a real HTTP server that breaks off where a test says so.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import { after, before, beforeEach, test } from 'node:test'
import { Failure, type ProcessEvent, routes } from '@atoll/protocol'
import { Connection } from './connection.ts'
import { ConnectionFailure } from './connection-failure.ts'
import { follow } from './follow.ts'

type Answer = (request: IncomingMessage, response: ServerResponse) => void

let answers: Answer[] = []
let asked: string[] = []
let connection: Connection

const server = http.createServer((request, response) => {
  asked.push(`${request.method} ${request.url}`)
  const next = answers.shift()
  if (next) next(request, response)
  else response.writeHead(500).end()
})

before(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  connection = new Connection({ url: `http://127.0.0.1:${port}`, apiKey: 'key', fetch: globalThis.fetch })
})

beforeEach(() => {
  answers = []
  asked = []
})

after(() => {
  server.closeAllConnections()
  server.close()
})

const params = { id: 'sandbox-1', pid: 'p1' }
const frame = (event: ProcessEvent & { seq: number }): string =>
  `id: ${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`
const out = (seq: number): string => frame({ type: 'stdout', seq, text: `line ${seq}` })
const exit = (seq: number): string => frame({ type: 'exit', seq, exit: { type: 'exited', code: 0 }, timed_out: false, duration_ms: 1 })

const events =
  (text: string, how: 'end' | 'break' | 'stay'): Answer =>
  (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(`: keep-alive\n\n${text}`, () => {
      if (how === 'end') response.end()
      if (how === 'break') response.destroy()
    })
  }

async function read(options: { patienceMs?: number; signal?: AbortSignal } = {}): Promise<string[]> {
  const seen: string[] = []
  const isLast = (event: ProcessEvent): boolean => event.type === 'exit'
  for await (const { event } of follow(connection, routes.processes.events, { params }, { ...options, isLast })) {
    seen.push('seq' in event ? `${event.type} ${event.seq}` : event.type)
  }
  return seen
}

test('a stream that breaks goes on after the last event that was read', async () => {
  answers = [events(out(1) + out(2), 'break'), events(out(3).slice(0, 20), 'break'), events(out(3) + exit(4), 'end')]
  assert.deepEqual(await read(), ['stdout 1', 'stdout 2', 'stdout 3', 'exit 4'])
  assert.deepEqual(
    asked.map((line) => line.split('?')[1]),
    [undefined, 'cursor=2', 'cursor=2'],
  )
})

test('an event that comes twice is read once', async () => {
  answers = [events(out(1) + out(2), 'break'), events(out(1) + out(2) + exit(3), 'end')]
  assert.deepEqual(await read(), ['stdout 1', 'stdout 2', 'exit 3'])
})

test('a stream that ends without its last event is not complete', async () => {
  answers = Array.from({ length: 50 }, () => events('', 'end'))
  await assert.rejects(read({ patienceMs: 300 }), ConnectionFailure)
})

test('a refusal ends a stream at once', async () => {
  answers = [
    events(out(1), 'break'),
    (_, response) => response.writeHead(404).end(JSON.stringify({ error: 'gone', code: 'process.not_found' })),
  ]
  await assert.rejects(read(), (error) => error instanceof Failure && error.code === 'process.not_found')
  assert.equal(asked.length, 2)
})

test('a reader that leaves closes the connection', async () => {
  const closed = new Promise<void>((resolve) => {
    answers = [
      (request, response) => {
        response.once('close', resolve)
        events(out(1), 'stay')(request, response)
      },
    ]
  })
  for await (const _ of follow(connection, routes.processes.events, { params }, {})) break
  await closed
})

test('an abort ends a silent stream with its reason', async () => {
  const abort = new AbortController()
  answers = [
    (request, response) => {
      events('', 'stay')(request, response)
      setImmediate(() => abort.abort(new Error('enough')))
    },
  ]
  await assert.rejects(read({ signal: abort.signal }), /enough/)
})

const reset: Answer = (request) => request.socket.destroy()
const list: Answer = (_, response) => response.writeHead(200).end(JSON.stringify({ processes: [] }))
const rateLimited: Answer = (_, response) =>
  response.writeHead(429).end(JSON.stringify({ error: 'slow down', code: 'request.rate_limited', retry_after_ms: 10 }))
const unavailable: Answer = (_, response) =>
  response.writeHead(503).end(JSON.stringify({ error: 'wait', code: 'runtime.unavailable', retry_after_ms: 10 }))

test('a read is sent again after a reset and when the operator asks to come back', async () => {
  answers = [reset, rateLimited, unavailable, list]
  assert.deepEqual(await connection.call(routes.processes.list, { params: { id: 'sandbox-1' } }), { processes: [] })
})

test('a write whose answer was lost is not sent again, but one that was refused for its rate is', async () => {
  answers = [reset]
  const start = () => connection.call(routes.processes.start, { params: { id: 'sandbox-1' }, body: { command: 'true' } })
  await assert.rejects(start(), ConnectionFailure)
  assert.equal(asked.length, 1)
  answers = [rateLimited, unavailable]
  await assert.rejects(start(), (error) => error instanceof Failure && error.code === 'runtime.unavailable')
  assert.equal(asked.length, 3)
})

test('a read that is never answered fails after a few attempts', async () => {
  answers = Array.from({ length: 20 }, () => reset)
  await assert.rejects(connection.call(routes.processes.list, { params: { id: 'sandbox-1' } }), ConnectionFailure)
  assert.equal(asked.length, 5)
})

test('an operator that is not there is named, with the reason', async () => {
  const gone = http.createServer().listen(0, '127.0.0.1')
  await once(gone, 'listening')
  const address = gone.address()
  const url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  gone.close()
  const nobody = new Connection({ url, apiKey: undefined, fetch: globalThis.fetch })
  await assert.rejects(
    nobody.call(routes.health.health, {}),
    (error) => error instanceof ConnectionFailure && error.message.includes(`${url}: nothing listens there`),
  )
})

test('an answer of another form than the protocol says is a failure', async () => {
  answers = [(_, response) => response.writeHead(200).end('{"processes":1}')]
  await assert.rejects(connection.call(routes.processes.list, { params: { id: 'sandbox-1' } }), Failure)
})
