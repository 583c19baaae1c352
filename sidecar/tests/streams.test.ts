import assert from 'node:assert/strict'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { ExecResult, Process } from '@atoll/protocol'
import { type Answer, type SidecarProcess, startSidecarProcess, until } from './sidecar-process.ts'

let sidecar: SidecarProcess
before(async () => {
  sidecar = await startSidecarProcess()
})
after(() => sidecar[Symbol.asyncDispose]())

const childrenOf = (on: SidecarProcess): number[] =>
  readFileSync(`/proc/${on.process.pid}/task/${on.process.pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)

const commandLine = (pid: number): string => readFileSync(`/proc/${pid}/cmdline`, 'utf8')

/** The shell that the sidecar has for itself. */
const pipeMaker = (on: SidecarProcess): number => childrenOf(on).find((pid) => commandLine(pid).includes('<<')) ?? 0

const pipeCount = (on: SidecarProcess): number =>
  readdirSync(`/proc/${on.process.pid}/fd`).filter((name) => {
    try {
      return readlinkSync(`/proc/${on.process.pid}/fd/${name}`).startsWith('pipe:')
    } catch {
      // It was closed while it was looked at.
      return false
    }
  }).length

test('a command opens its standard streams again by their names', async () => {
  const { stdout, stderr, exit_code } = await sidecar.exec(
    'cat /dev/stdin > /dev/stdout; echo one > /dev/stderr; echo two | tee /dev/stderr /proc/self/fd/2; echo end >> /dev/stdout',
    { stdin: 'input\n' },
  )
  assert.deepEqual({ stdout, stderr, exit_code }, { stdout: 'input\ntwo\nend\n', stderr: 'one\ntwo\ntwo\n', exit_code: 0 })
})

test('it does with only the capabilities that the sidecar has in a sandbox', async () => {
  const capabilities = '+setuid,+setgid,+kill,+chown'
  await using bare = await startSidecarProcess({
    through: ['setpriv', '--no-new-privs', `--bounding-set=-all,${capabilities}`, `--inh-caps=-all,${capabilities}`],
  })
  const { stdout, stderr } = await bare.exec('cat /dev/stdin; echo err > /dev/stderr', { stdin: 'in' })
  assert.deepEqual([stdout, stderr], ['in', 'err\n'])
})

test('input that has ended can be opened again by its name', { timeout: 10_000 }, async () => {
  assert.equal((await sidecar.exec('sleep 0.2; cat /dev/stdin; cat /dev/stdin; echo end', { stdin: 'late\n' })).stdout, 'late\nend\n')
})

test('so does a process that runs in the background', async () => {
  const { id } = await sidecar.json<Process>('POST', '/processes', { command: 'cat /dev/stdin | tee /dev/stderr', stdin: 'open' })
  await sidecar.json('POST', `/processes/${id}/stdin?close=true`, 'text\n')
  const events = await sidecar.allEvents(`/processes/${id}/events`)
  const texts = events.map(({ event, data }) => [event, data.text]).sort()
  assert.deepEqual(texts, [
    ['exit', undefined],
    ['stderr', 'text\n'],
    ['stdout', 'text\n'],
  ])
})

test('each stream of a command is a pipe that only the user may open', async () => {
  const { stdout } = await sidecar.exec('stat -Lc "%F %a %u:%g" /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2', { stdin: '' })
  assert.equal(stdout, 'fifo 600 1000:1000\n'.repeat(3))
})

test('a pipe ends when its last writer has closed it, and not before', async () => {
  const { stdout, duration_ms } = await sidecar.exec('echo first; (sleep 0.3; echo last) & exit 0')
  assert.equal(stdout, 'first\nlast\n')
  assert.ok(duration_ms >= 300 && duration_ms < 490, `${duration_ms} ms`)
})

test('a writer is told that nobody reads its input any more', async () => {
  const { id } = await sidecar.json<Process>('POST', '/processes', { command: 'exec <&-; sleep 60', stdin: 'open' })
  await delay(100)
  const write = (): Promise<Answer> => sidecar.call('POST', `/processes/${id}/stdin`, { body: 'x'.repeat(1_000_000) })
  for (let count = 0; count < 3; count++) assert.equal((await write()).status, 409)
  await sidecar.call('DELETE', `/processes/${id}`)
})

test('many commands at once get all of their output, each its own', async () => {
  const results = await Promise.all(
    Array.from({ length: 60 }, (_, index) =>
      sidecar.exec(`cat; head -c 200000 /dev/zero | tr '\\0' x; echo ${index} >&2`, { stdin: `${index}:` }),
    ),
  )
  for (const [index, { stdout, stderr }] of results.entries()) {
    assert.equal(stdout, `${index}:${'x'.repeat(200_000)}`)
    assert.equal(stderr, `${index}\n`)
  }
})

test('no pipe is left open by what has ended or could not start', async () => {
  await sidecar.exec('true')
  await delay(200)
  for (let count = 0; count < 20; count++) {
    await sidecar.exec('echo x', { stdin: 'x' })
    await sidecar.json('POST', '/exec', { argv: ['no-such-program'] })
  }
  // Those at hand, two descriptors each, and the sidecar's own.
  await until('the pipes are closed', () => pipeCount(sidecar) <= 14 * 2 + 12)
})

test('when the shell that makes the pipes is gone, commands run on, and it comes back', async () => {
  await using alone = await startSidecarProcess()
  await alone.exec('true')
  const gone = pipeMaker(alone)
  assert.notEqual(gone, 0)
  process.kill(gone, 'SIGKILL')
  const codes = []
  for (let count = 0; count < 12; count++) codes.push((await alone.exec('echo x; exit 7')).exit_code)
  assert.deepEqual(new Set(codes), new Set([7]))
})

test('where the shell makes no pipes, commands have their streams all the same', async () => {
  await using bare = await startSidecarProcess({
    through: ['unshare', '--mount', 'sh', '-c', 'mount --bind /bin/false /bin/sh && exec "$@"', 'sh'],
  })
  const { stdout, exit_code } = await bare.json<ExecResult>('POST', '/exec', { argv: ['cat'], stdin: 'in' })
  assert.deepEqual([stdout, exit_code], ['in', 0])
  const { id } = await bare.json<Process>('POST', '/processes', { argv: ['printf', 'out'] })
  assert.deepEqual(
    (await bare.allEvents(`/processes/${id}/events`)).map(({ event }) => event),
    ['stdout', 'exit'],
  )
  assert.match(bare.log, /no pipes/)
})
