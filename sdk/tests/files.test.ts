// Files, terminals and ports of a sandbox through the SDK.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Atoll, Failure, type FailureCode, type Sandbox } from '@atoll/sdk'
import { startOperator, type TestOperator } from '../../tests/start-operator.ts'

let operator: TestOperator
let sandbox: Sandbox

before(async () => {
  operator = await startOperator({ runtime: 'namespace' })
  const atoll = new Atoll({ url: operator.url, apiKey: operator.adminKey })
  sandbox = await atoll.sandboxes.create({ memoryMb: 512, diskGb: 1, ports: [8000] })
})

after(() => operator?.[Symbol.asyncDispose]())

const isCode = (code: FailureCode) => (error: unknown) => error instanceof Failure && error.code === code

test('a file is written with its mode, read whole and in part, and listed', async () => {
  const written = await sandbox.files.write('notes/day one.txt', 'grüße', { mode: '750' })
  assert.deepEqual([written.type, written.size, Number.parseInt(written.mode, 8) & 0o777], ['file', 7, 0o750])
  assert.equal(await sandbox.files.readText('notes/day one.txt'), 'grüße')
  assert.equal(new TextDecoder().decode(await sandbox.files.read('notes/day one.txt', { offset: 0, length: 2 })), 'gr')
  const entries = await sandbox.files.list('notes')
  assert.deepEqual(
    entries.map(({ name }) => name),
    ['day one.txt'],
  )
})

test('a large file goes both ways as a stream and stays the same', async () => {
  const piece = new Uint8Array(1_048_576).map((_, at) => (at * 7) % 251)
  const sent = createHash('sha256')
  let pieces = 0
  const stream = new ReadableStream<Uint8Array>({
    pull: (controller) => {
      if (pieces++ === 24) return controller.close()
      sent.update(piece)
      controller.enqueue(piece)
    },
  })
  assert.equal((await sandbox.files.write('big.bin', stream)).size, 24 * piece.length)
  const received = createHash('sha256')
  for await (const chunk of await sandbox.files.readStream('big.bin')) received.update(chunk)
  assert.equal(received.digest('hex'), sent.digest('hex'))
})

test('what is not there is told by its code, and removing it is no failure', async () => {
  await assert.rejects(sandbox.files.readText('missing'), isCode('file.not_found'))
  await assert.rejects(sandbox.files.readText('../../../etc/shadow'), isCode('file.outside'))
  assert.equal(await sandbox.files.exists('missing'), false)
  assert.equal(await sandbox.files.remove('missing'), false)
})

test('directories are made, moved and removed', async () => {
  await sandbox.files.mkdir('a/b/c')
  await sandbox.files.write('a/b/c/file', 'x')
  await sandbox.files.move('a/b', 'moved')
  assert.equal(await sandbox.files.readText('moved/c/file'), 'x')
  await sandbox.files.write('other', 'y')
  await assert.rejects(sandbox.files.move('other', 'moved/c/file'), isCode('file.exists'))
  await sandbox.files.move('other', 'moved/c/file', { overwrite: true })
  assert.equal(await sandbox.files.readText('moved/c/file'), 'y')
  await assert.rejects(sandbox.files.remove('moved'))
  assert.equal(await sandbox.files.remove('moved', { recursive: true }), true)
})

test('changes are watched from the moment that it is ready', async () => {
  await sandbox.files.mkdir('watched')
  for await (const event of sandbox.files.watch('watched')) {
    if (event.type === 'ready') await sandbox.files.write('watched/new.txt', 'x')
    if (event.type === 'created' || event.type === 'changed') {
      assert.match(event.path, /new\.txt/)
      break
    }
  }
})

test('a terminal shows what is typed, has the size it was given, and ends with its shell', async () => {
  const terminal = await sandbox.terminals.open({ cols: 100, rows: 30, env: { MARK: 'seen' } })
  assert.ok((await sandbox.terminals.list()).some(({ id }) => id === terminal.id))
  await terminal.resize(120, 40)
  // Typed in pieces that go out while others are under way: their order must stay.
  const typed = 'stty size; echo $MARK; exit 3\n'
  await Promise.all([...typed].map((character) => terminal.write(character)))
  let shown = ''
  let code: number | null = null
  for await (const output of terminal.output()) {
    if (output.type === 'output') shown += output.text
    if (output.type === 'exit') code = output.code
  }
  assert.match(shown, /40 120/)
  assert.match(shown, /[\r\n]seen/)
  assert.equal(code, 3)
})

test('a second viewer of a terminal sees what was there before it came', async () => {
  const terminal = await sandbox.terminals.open()
  const seesMark = async (): Promise<boolean> => {
    let shown = ''
    for await (const output of sandbox.terminals.attach(terminal.info).output({ signal: AbortSignal.timeout(20_000) })) {
      if (output.type === 'output') shown += output.text
      // Once as it was typed, once as it was answered.
      if (shown.split('the-mark').length > 2) return true
    }
    return false
  }
  const first = seesMark()
  await terminal.write('echo the-mark\n')
  assert.equal(await first, true)
  assert.equal(await seesMark(), true)
  await terminal.close()
})

const program = `
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        self.send_response(201)
        self.end_headers()
        self.wfile.write(self.path.encode() + b' ' + body)
    do_GET = do_POST
http.server.HTTPServer(('127.0.0.1', 8000), Handler).serve_forever()
`

test('a port answers through the operator, and only with a credential', async (context) => {
  if ((await sandbox.exec('command -v python3')).exit_code !== 0) return context.skip('the base image has no python3 to serve with')
  await sandbox.processes.start(['python3', '-c', program])
  const deadline = Date.now() + 10_000
  while (!(await sandbox.ports.list()).listening.includes(8000)) {
    assert.ok(Date.now() < deadline, 'nothing listened in time')
    await delay(20)
  }
  const response = await sandbox.ports.fetch(8000, '/echo?x=1', { method: 'POST', body: 'hello' })
  assert.deepEqual([response.status, await response.text()], [201, '/echo?x=1 hello'])
  assert.deepEqual((await sandbox.ports.list()).ports, [8000])
  const bare = await fetch(sandbox.ports.url(8000), { redirect: 'manual' })
  assert.equal(bare.status, 401)
})

test('a port that was not asked for has no link, and one that is no port is refused here', async () => {
  assert.match((await sandbox.ports.preview(8000, { ttlSeconds: 60 })).url, /^http/)
  await assert.rejects(sandbox.ports.preview(9000), isCode('port.not_exposed'))
  assert.throws(() => sandbox.ports.url(70_000), isCode('port.invalid'))
})
