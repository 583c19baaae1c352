// Commands through the SDK: their output, their end, and what survives a crash of the operator.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Atoll, Failure, type Sandbox } from '@atoll/sdk'
import { startOperator, type TestOperator } from '../../tests/start-operator.ts'

let operator: TestOperator
let sandbox: Sandbox

before(async () => {
  operator = await startOperator({ runtime: 'namespace' })
  sandbox = await new Atoll({ url: operator.url, apiKey: operator.adminKey }).sandboxes.create({ memoryMb: 512, diskGb: 1 })
})

after(() => operator?.[Symbol.asyncDispose]())

test('a command gives its output and its status, by shell and by argv', async () => {
  const shell = await sandbox.run('echo out; echo err >&2; exit 3')
  assert.deepEqual([shell.stdout, shell.stderr, shell.exitCode, shell.exit], ['out\n', 'err\n', 3, { type: 'exited', code: 3 }])
  const argv = await sandbox.run(['printf', '%s', '$HOME; exit 1'])
  assert.deepEqual([argv.stdout, argv.exitCode, argv.truncated, argv.timedOut], ['$HOME; exit 1', 0, false, false])
})

test('a program that does not exist is a result of 127', async () => {
  assert.equal((await sandbox.run(['no-such-program'])).exitCode, 127)
})

test('environment and working directory are those that were asked for', async () => {
  await sandbox.run('mkdir -p deep/er')
  const { stdout } = await sandbox.run('echo $COLOUR; pwd', { env: { COLOUR: 'green' }, cwd: 'deep/er' })
  assert.equal(stdout, 'green\n/home/agent/workspace/deep/er\n')
})

test('output comes while the command runs, in order, and input goes in', async () => {
  const seen: string[] = []
  const answers = ['one\n', 'two\n']
  async function* input() {
    for (const answer of answers) yield answer
  }
  const result = await sandbox.run('while read line; do echo "got $line"; done; echo done >&2', {
    stdin: input(),
    onStdout: (text) => void seen.push(text),
    onStderr: (text) => void seen.push(text),
  })
  assert.equal(seen.join(''), 'got one\ngot two\ndone\n')
  assert.equal(result.stdout, 'got one\ngot two\n')
})

test('a command that does not read its input ends all the same, also when that input never ends', async () => {
  assert.equal((await sandbox.run('exit 4', { stdin: 'x'.repeat(1_000_000) })).exitCode, 4)
  async function* endless() {
    yield 'first\n'
    await new Promise(() => undefined)
  }
  assert.equal((await sandbox.run('read line; exit 5', { stdin: endless() })).exitCode, 5)
})

test('bytes that are no text go in and come out unchanged', async () => {
  const bytes = Uint8Array.from({ length: 100_000 }, (_, at) => (at * 31) % 256)
  const chunks: Uint8Array[] = []
  await sandbox.run(['cat'], {
    stdin: bytes,
    collect: false,
    onOutput: (output) => {
      if (output.stream === 'stdout') chunks.push(output.bytes)
    },
  })
  assert.ok(Buffer.concat(chunks).equals(bytes))
})

test('a long output arrives whole', async () => {
  const { stdout, truncated } = await sandbox.run('seq 1 200000')
  assert.equal(truncated, false)
  assert.equal(stdout, Array.from({ length: 200_000 }, (_, at) => `${at + 1}\n`).join(''))
})

test('a command that takes too long is killed and says so', async () => {
  const result = await sandbox.run('sleep 60 & sleep 60', { timeoutMs: 300 })
  assert.equal(result.timedOut, true)
  assert.equal(result.exit.type, 'signalled')
  assert.notEqual(result.exitCode, 0)
})

test('an abort kills the command and what it started', async () => {
  const abort = new AbortController()
  const running = sandbox.run('sleep 4321 & echo started; sleep 4321', {
    signal: abort.signal,
    onStdout: () => abort.abort(new Error('enough')),
  })
  await assert.rejects(running, /enough/)
  const { stdout } = await sandbox.exec("pgrep -fx 'sleep 4321' | wc -l")
  assert.equal(stdout.trim(), '0')
})

test('a listener that throws ends the command', async () => {
  const running = sandbox.run('echo go; sleep 4322', {
    onStdout: () => {
      throw new Error('no more')
    },
  })
  await assert.rejects(running, /no more/)
  assert.equal((await sandbox.exec("pgrep -fx 'sleep 4322' | wc -l")).stdout.trim(), '0')
})

test('exec gives a short command in one call', async () => {
  const result = await sandbox.exec(['sh', '-c', 'cat; echo $X; exit 7'], { stdin: 'in ', env: { X: 'y' } })
  assert.deepEqual([result.stdout, result.exit_code], ['in y\n', 7])
  await assert.rejects(
    sandbox.exec('true', { timeoutMs: 600_000 }),
    (error) => error instanceof Failure && error.code === 'request.invalid',
  )
})

test('a background process is listed, read from any point, and killed', async () => {
  const process = await sandbox.processes.start('echo a; echo b; sleep 600')
  const seen: string[] = []
  let last = 0
  for await (const output of process.output()) {
    if (output.stream === 'gap') continue
    seen.push(output.text)
    last = output.seq
    if (seen.join('').includes('b\n')) break
  }
  assert.equal(seen.join(''), 'a\nb\n')
  assert.ok((await sandbox.processes.list()).some(({ id }) => id === process.id))
  await (await sandbox.processes.get(process.id)).kill('SIGKILL')
  const end = await process.wait()
  assert.deepEqual(end.exit, { type: 'signalled', signal: 'SIGKILL' })
  assert.equal(end.exitCode, 137)
  for await (const output of process.output({ cursor: last })) assert.fail(`nothing was written after ${last}, but came ${output.stream}`)
})

test('input that was left open is written and closed', async () => {
  const process = await sandbox.processes.start(['cat'], { stdin: 'open' })
  await process.write('hello ')
  await process.write(new TextEncoder().encode('world'))
  await process.closeStdin()
  let text = ''
  for await (const output of process.output()) if (output.stream !== 'gap') text += output.text
  assert.equal(text, 'hello world')
  await assert.rejects(process.write('late'), (error) => error instanceof Failure && error.code === 'process.ended')
  await process.remove()
  await process.remove()
})

test('a command goes on over a crash of the operator, and no byte is lost or repeated', async () => {
  await using crashing = await startOperator({ runtime: 'namespace' })
  const port = new URL(crashing.url).port
  const atoll = new Atoll({ url: crashing.url, apiKey: crashing.adminKey })
  const victim = await atoll.sandboxes.create({ memoryMb: 512, diskGb: 1 })
  const again = Promise.withResolvers<TestOperator>()
  let hasCrashed = false
  const result = await victim.run('for i in $(seq 1 60); do echo line $i; sleep 0.05; done; exit 9', {
    onStdout: (text) => {
      if (hasCrashed || !text.includes('line 5')) return
      hasCrashed = true
      crashing
        .kill()
        .then(() => startOperator({ runtime: 'namespace', folder: crashing.folder, env: { ATOLL_PORT: port } }))
        .then(again.resolve, again.reject)
    },
  })
  await using restarted = await again.promise
  assert.equal(restarted.url, crashing.url)
  assert.equal(result.stdout, Array.from({ length: 60 }, (_, at) => `line ${at + 1}\n`).join(''))
  assert.deepEqual([result.exitCode, result.truncated], [9, false])
})

test('the end of a command whose sandbox is deleted is lost, never success', async () => {
  const atoll = new Atoll({ url: operator.url, apiKey: operator.adminKey })
  const doomed = await atoll.sandboxes.create({ memoryMb: 512, diskGb: 1 })
  const result = await doomed.run('echo up; sleep 600', { onStdout: () => doomed.delete(), patienceMs: 5000 })
  assert.notEqual(result.exitCode, 0)
  assert.notEqual(result.exit.type, 'exited')
})
