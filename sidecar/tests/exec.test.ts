import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { after, before, test } from 'node:test'
import type { SidecarHealth } from '@atoll/protocol/sidecar'
import { type SidecarProcess, startSidecarProcess, until } from './sidecar-process.ts'

let sidecar: SidecarProcess
before(async () => {
  sidecar = await startSidecarProcess()
})
after(() => sidecar[Symbol.asyncDispose]())

const commandLines = (): string[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ')
      } catch {
        return ''
      }
    })
const isRunning = (marker: string): boolean => commandLines().some((line) => line.includes(marker))

test('health says what the sidecar is', async () => {
  const health = await sidecar.json<SidecarHealth>('GET', '/health')
  assert.equal(health.status, 'ok')
  assert.equal(health.generation, 1)
  assert.ok(health.features.includes('exec'))
})

test('the channel directory and its socket are only for the sidecar', () => {
  assert.equal(statSync(path.dirname(sidecar.socketPath)).mode & 0o777, 0o700)
  assert.equal(statSync(sidecar.socketPath).mode & 0o777, 0o600)
})

test('a command runs as the sandbox user without further groups, in its own session, in the workspace', async () => {
  const result = await sidecar.exec('id -u; id -g; id -G; pwd; ps -o pid=,pgid=,sid= -p $$')
  const [uid, gid, groups, cwd, ids = ''] = result.stdout.split('\n')
  assert.deepEqual([uid, gid, groups, cwd], ['1000', '1000', '1000', sidecar.workspace])
  assert.equal(new Set(ids.trim().split(/\s+/)).size, 1)
})

test('output, errors and exit code are answered', async () => {
  const result = await sidecar.exec('echo out; echo err >&2; exit 3')
  assert.deepEqual([result.stdout, result.stderr, result.exit_code], ['out\n', 'err\n', 3])
  assert.deepEqual(result.exit, { type: 'exited', code: 3 })
})

test('argv is passed without a shell', async () => {
  const result = await sidecar.json('POST', '/exec', { argv: ['printf', '%s|', '$HOME', 'a b', '*'] })
  assert.equal(result.stdout, '$HOME|a b|*|')
})

test('standard input is passed, and empty when none is given', async () => {
  assert.equal((await sidecar.exec('cat', { stdin: 'héllo' })).stdout, 'héllo')
  assert.equal((await sidecar.exec('cat; echo end')).stdout, 'end\n')
})

test('input that nobody reads does not break the command', async () => {
  assert.equal((await sidecar.exec('exec <&-; sleep 0.1; echo ok', { stdin: 'x'.repeat(1_000_000) })).stdout, 'ok\n')
})

test('a program that does not exist is the result 127, one that cannot be executed 126', async () => {
  const missing = await sidecar.json('POST', '/exec', { argv: ['no-such-program'] })
  assert.equal(missing.exit_code, 127)
  assert.match(String(missing.stderr), /no-such-program: not found/)
  assert.equal((await sidecar.json('POST', '/exec', { argv: ['/etc/passwd'] })).exit_code, 126)
  assert.equal((await sidecar.exec('no-such-program')).exit_code, 127)
})

test('a working directory that does not exist is a failure', async () => {
  const answer = await sidecar.call('POST', '/exec', { body: { command: 'true', cwd: 'nowhere' } })
  assert.equal(answer.status, 404)
  assert.equal(JSON.parse(answer.body.toString()).code, 'file.not_found')
})

test('a relative working directory starts in the workspace', async () => {
  await sidecar.exec('mkdir -p inner')
  assert.equal((await sidecar.exec('pwd', { cwd: 'inner' })).stdout, `${sidecar.workspace}/inner\n`)
})

test('the environment holds what was given and nothing of the sidecar', async () => {
  await sidecar.json('PUT', '/environment', { env: { GIVEN: '1', BOTH: 'given' }, secrets: { TOKEN: 's3cret' } })
  const { stdout } = await sidecar.exec('env', { env: { ASKED: '2', BOTH: 'asked' } })
  const names = new Map(stdout.split('\n').map((line) => [line.split('=')[0], line.slice(line.indexOf('=') + 1)]))
  assert.equal(names.get('GIVEN'), '1')
  assert.equal(names.get('BOTH'), 'asked')
  assert.equal(names.get('TOKEN'), 's3cret')
  assert.equal(names.get('HOME'), sidecar.home)
  assert.equal(names.get('USER'), 'agent')
  assert.doesNotMatch(stdout, /ATOLL_|ONLY_OF_THE_SIDECAR|leaked/)
})

test('secrets are files of the user that only the user reads, and go when they are taken away', async () => {
  await sidecar.json('PUT', '/environment', { env: {}, secrets: { ONE: '1', TWO: 'two\n' } })
  assert.equal((await sidecar.exec(`cat ${sidecar.secrets}/TWO; stat -c '%a %u' ${sidecar.secrets}/ONE`)).stdout, 'two\n400 1000\n')
  await sidecar.json('PUT', '/environment', { env: {}, secrets: { TWO: 'changed' } })
  assert.equal((await sidecar.exec(`ls -A ${sidecar.secrets}; cat ${sidecar.secrets}/TWO`)).stdout, 'TWO\nchanged')
  await sidecar.json('PUT', '/environment', { env: {}, secrets: {} })
  assert.equal((await sidecar.exec(`ls -A ${sidecar.secrets}`)).stdout, '')
})

test('a time-out ends the whole group, also what ignores the polite signal', async () => {
  const marker = 'sleep 98.7601'
  const result = await sidecar.exec(`sh -c "trap '' TERM; ${marker}; ${marker}" & ${marker}`, { timeout_ms: 200 })
  assert.equal(result.timed_out, true)
  assert.deepEqual(result.exit, { type: 'signalled', signal: 'SIGTERM' })
  assert.equal(result.exit_code, 143)
  await until('the group is gone', () => !isRunning(marker))
})

test('a grandchild that keeps the pipes open does not hold the answer back', async () => {
  const result = await sidecar.exec('echo before; sleep 97.5 & exit 0')
  assert.equal(result.stdout, 'before\n')
  assert.ok(result.duration_ms < 30_000)
  await sidecar.exec('pkill -f "sleep 97.5"')
})

test('a caller that leaves takes its command along', async () => {
  const marker = 'sleep 96.4321'
  const request = http.request({ socketPath: sidecar.socketPath, method: 'POST', path: '/exec' })
  request.on('error', () => undefined)
  request.end(JSON.stringify({ command: marker }))
  await until('the command runs', () => isRunning(marker))
  request.destroy()
  await until('the command is gone', () => !isRunning(marker))
})

test('output beyond 4 MiB is cut at a whole character and the command goes on', async () => {
  const { stdout, truncated, exit_code } = await sidecar.exec('printf x; yes é | tr -d "\\n" | head -c 6000000')
  assert.equal(truncated, true)
  assert.equal(exit_code, 0)
  assert.ok(Buffer.byteLength(stdout) <= 4 * 1024 * 1024)
  assert.ok(!stdout.includes('\ufffd'))
})

test('a directory that only the user may enter is a working directory', async () => {
  const directory = path.join(sidecar.workspace, 'private')
  mkdirSync(directory)
  chmodSync(directory, 0o700)
  chownSync(directory, 1000, 1000)
  assert.equal((await sidecar.exec('pwd', { cwd: 'private' })).stdout, `${directory}\n`)
})

test('an unknown route, a wrong method and a broken body are JSON failures', async () => {
  const failure = async (method: string, target: string, body?: string): Promise<unknown[]> => {
    const answer = await sidecar.call(method, target, body === undefined ? {} : { body })
    return [answer.status, JSON.parse(answer.body.toString()).code]
  }
  assert.deepEqual(await failure('GET', '/nothing'), [404, 'route.not_found'])
  assert.deepEqual(await failure('GET', '/exec'), [405, 'route.method'])
  assert.deepEqual(await failure('POST', '/exec', '{'), [400, 'request.invalid_json'])
  assert.deepEqual(await failure('POST', '/exec', `{"command":"${'x'.repeat(17_000_000)}"}`), [413, 'request.too_large'])
})

test('no more processes than allowed live at once', async () => {
  await using small = await startSidecarProcess({ env: { ATOLL_LIVE_PROCESSES: '2' } })
  const first = await small.json<{ id: string }>('POST', '/processes', { command: 'sleep 60' })
  await small.json('POST', '/processes', { command: 'sleep 60' })
  assert.equal((await small.call('POST', '/exec', { body: { command: 'true' } })).status, 429)
  await small.call('DELETE', `/processes/${first.id}`)
  assert.equal((await small.exec('true')).exit_code, 0)
})

test('with only the four capabilities that it asks for everything still works', async () => {
  const capabilities = '+setuid,+setgid,+kill,+chown'
  await using bare = await startSidecarProcess({
    through: ['setpriv', '--no-new-privs', `--bounding-set=-all,${capabilities}`, `--inh-caps=-all,${capabilities}`],
    prepare: async (folder) => {
      // A home that belongs to the user already, and to nobody else; the workspace is missing.
      mkdirSync(path.join(folder, 'home'), { mode: 0o700 })
      chownSync(path.join(folder, 'home'), 1000, 1000)
    },
  })
  assert.equal((await bare.exec('id -u; pwd')).stdout, `1000\n${bare.workspace}\n`)
  await bare.call('PUT', '/files/content?path=a/b', { body: 'content' })
  assert.equal((await bare.exec('cat a/b; stat -c %u a/b')).stdout, 'content1000\n')
  await bare.json('PUT', '/environment', { env: {}, secrets: { KEY: 'v' } })
  assert.equal((await bare.exec(`cat ${bare.secrets}/KEY`)).stdout, 'v')
  const terminal = await bare.json<{ session_id: string }>('POST', '/terminals', {})
  await bare.json('POST', `/terminals/${terminal.session_id}/input`, { data: 'echo > $(tty) && id -G; exit\n' })
  const shown = await bare.allEvents(`/terminals/${terminal.session_id}/stream`)
  assert.match(JSON.stringify(shown), /1000/)
  const slow = await bare.exec('sleep 60', { timeout_ms: 100 })
  assert.equal(slow.timed_out, true)
})

const mayProtect = spawnSync('sh', ['-c', 'echo -500 > /proc/self/oom_score_adj']).status === 0
const withoutRight = mayProtect ? {} : { skip: 'this machine lets nobody lower an oom_score_adj (no CAP_SYS_RESOURCE)' }

test('what the sidecar starts is not protected from the out-of-memory killer as it is itself', withoutRight, async () => {
  await using guarded = await startSidecarProcess({
    through: ['sh', '-c', 'echo -500 > /proc/self/oom_score_adj && exec "$@"', 'sh'],
  })
  assert.equal((await guarded.exec('cat /proc/self/oom_score_adj')).stdout, '0\n')
  assert.equal(readFileSync(`/proc/${guarded.process.pid}/oom_score_adj`, 'utf8'), '-500\n')
})

test('a sidecar that ends leaves no socket behind', async () => {
  await using ending = await startSidecarProcess()
  const channel = path.dirname(ending.socketPath)
  assert.deepEqual(readdirSync(channel), ['sidecar.sock'])
  const ended = once(ending.process, 'exit')
  ending.process.kill('SIGTERM')
  await ended
  assert.deepEqual(readdirSync(channel), [])
})

test('a sidecar that ends takes its processes along', async () => {
  const marker = 'sleep 95.1357'
  const ending = await startSidecarProcess()
  await ending.json('POST', '/processes', { command: `trap '' TERM; ${marker}` })
  await until('the process runs', () => isRunning(marker))
  const ended = once(ending.process, 'exit')
  await ending[Symbol.asyncDispose]()
  assert.equal((await ended)[0], 0)
  await until('the process is gone', () => !isRunning(marker))
})
