// What the operator answers before any route is asked.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { after, before, test } from 'node:test'
import { startOperator, type TestOperator } from './start-operator.ts'

let operator: TestOperator
before(async () => {
  operator = await startOperator({ runtime: 'namespace', env: { ATOLL_MAX_REQUESTS: '3' } })
})
after(() => operator[Symbol.asyncDispose]())

/** Everything that the operator says to these bytes until it has said enough. */
async function say(text: string, isEnough: (answer: string) => boolean): Promise<string> {
  const { hostname, port } = new URL(operator.url)
  const socket = net.connect(Number(port), hostname)
  socket.write(text)
  let answer = ''
  socket.setEncoding('utf8').on('data', (chunk) => {
    answer += chunk
    if (isEnough(answer)) socket.destroy()
  })
  await once(socket, 'close')
  return answer
}

const body = (answer: string): { code: string; error: string } => JSON.parse(/\{.*\}/.exec(answer)?.[0] ?? '{}')
const hasBody = (answer: string): boolean => answer.includes('}')

test('streams are no requests in flight: any number of them keeps nobody out', async () => {
  const abort = new AbortController()
  const streams = await Promise.all([1, 2, 3, 4, 5].map(() => operator.fetch('GET', '/api/events/stream', { signal: abort.signal })))
  assert.deepEqual(
    streams.map(({ status }) => status),
    [200, 200, 200, 200, 200],
  )
  assert.equal((await operator.call('GET', '/api/sandboxes')).status, 200)
  abort.abort()
})

test('one owner who waits for many long answers leaves room for the others', async () => {
  const key = await operator.newKey('bob')
  const id = await operator.newSandbox({ memory_mb: 128 }, key)
  const abort = new AbortController()
  const exec = (command: string) => operator.call('POST', `/api/sandboxes/${id}/exec`, { key, body: { command }, signal: abort.signal })
  const long = [exec('touch one; sleep 30'), exec('touch two; sleep 30')].map((answer) => answer.catch(() => undefined))
  const names = async (): Promise<string> => (await operator.call('GET', `/api/sandboxes/${id}/files?path=.`)).text
  while (!/one.*two/.test(await names()));
  const third = await exec('true')
  assert.deepEqual([third.status, third.body.code], [429, 'request.busy'])
  assert.equal((await operator.call('GET', '/api/sandboxes', { key: await operator.newKey('alice') })).status, 200)
  abort.abort()
  await Promise.all(long)
  for (let answer = third; answer.status !== 200; ) answer = await operator.call('GET', '/api/sandboxes', { key })
})

test('whoever sends bodies slowly and without a credential keeps only itself out', async () => {
  const { hostname, port } = new URL(operator.url)
  const head = 'POST /api/auth/challenge HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{'
  const answers: string[] = []
  const slow = [1, 2, 3].map((number) => {
    const socket = net.connect(Number(port), hostname)
    socket.setEncoding('utf8').on('data', (text) => answers.push(String(text)))
    socket.on('error', (error) => assert.fail(`connection ${number}: ${error.message}`))
    socket.write(head)
    return socket
  })
  while (answers.length < 2) await new Promise((resolve) => setTimeout(resolve, 10))
  for (const answer of answers) assert.match(answer, /^HTTP\/1\.1 429 /)
  assert.equal((await operator.call('GET', '/api/sandboxes')).status, 200)
  assert.equal((await operator.call('GET', '/health', { key: undefined })).status, 200)
  assert.equal((await operator.call('POST', '/api/auth/challenge', { key: undefined, body: {} })).status, 429)
  for (const socket of slow) socket.destroy()
  let status = 429
  while (status === 429) ({ status } = await operator.call('POST', '/api/auth/challenge', { key: undefined, body: {} }))
  assert.equal(status, 200)
})

test('what cannot be read as a request is refused in JSON like everything else', async () => {
  const long = await say(`GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: ${'x'.repeat(20_000)}\r\n\r\n`, hasBody)
  assert.match(long, /^HTTP\/1\.1 431 /)
  assert.equal(body(long).code, 'request.too_large')
  const broken = await say('GET /he alth HTTP/1.1\r\nhost: localhost\r\n\r\n', hasBody)
  assert.match(broken, /^HTTP\/1\.1 400 /)
  assert.equal(body(broken).code, 'request.invalid')
  const hopeful = await say('GET /health HTTP/1.1\r\nhost: localhost\r\nexpect: wonders\r\n\r\n', hasBody)
  assert.match(hopeful, /^HTTP\/1\.1 417 /)
  assert.equal(body(hopeful).code, 'request.invalid')
})

test('a client that would rather speak HTTP/2 is answered in HTTP/1.1', async () => {
  const offer = 'connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n'
  const answer = await say(`GET /health HTTP/1.1\r\nhost: localhost\r\n${offer}\r\n`, hasBody)
  assert.match(answer, /^HTTP\/1\.1 200 OK/)
})
