// The atoll command against a real operator with real sandboxes.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { startOperator, type TestOperator } from '../../tests/start-operator.ts'
import { atoll as bare, commandFor } from './atoll.ts'

let operator: TestOperator
let atoll: ReturnType<typeof commandFor>
const folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-cli-'))

before(async () => {
  operator = await startOperator({ runtime: 'namespace' })
  atoll = commandFor(operator)
  const made = await atoll(['create', '--name', 'demo', '--memory', '512m', '--disk', '1g', '--port', '8000', '--env', 'COLOUR=green'])
  assert.equal(made.code, 0, made.stderr)
})

after(async () => {
  await operator?.[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true })
})

test('create prints the id and nothing else, and ls shows the sandbox by name', async () => {
  const env = path.join(folder, 'env')
  writeFileSync(env, 'A=from file\nB="quoted"\n')
  const options = ['--memory', '512m', '--disk', '1g', '--env-file', env, '--env', 'A=from flag', '--metadata', 'team=blue']
  const { text, code } = await atoll(['create', '--name', 'second', ...options])
  assert.equal(code, 0)
  assert.match(text, /^sandbox-[0-9a-f-]{36}\n$/)
  assert.match((await atoll(['ls', '--metadata', 'team=blue'])).text, new RegExp(`^ID .*\n${text.trim()} +second +running +namespace`))
  assert.equal((await atoll(['exec', 'second', '--', 'sh', '-c', 'echo $A $B'])).text, 'from flag quoted\n')
  const listed = JSON.parse((await atoll(['ls', '--json', '--state', 'running'])).text)
  assert.deepEqual(listed.map(({ name }: { name: string }) => name).sort(), ['demo', 'second'])
  assert.equal((await atoll(['rm', text.slice(0, 20)])).text, text)
})

test('a snapshot is made, listed, begun with and removed, and a fork prints as many ids', async () => {
  await atoll(['exec', 'demo', '--', 'sh', '-c', 'echo kept > kept'])
  const made = await atoll(['snapshot', 'create', 'demo', '--name', 'early'])
  assert.match(made.text, /^snapshot-[0-9a-f-]{36}\n$/)
  const id = made.text.trim()
  assert.match((await atoll(['snapshot', 'ls', '--sandbox', 'demo'])).text, new RegExp(`^ID .*\n${id} +early +ready +[\\d.]+ MB`))
  const begun = await atoll(['create', '--snapshot', id, '--name', 'begun'])
  assert.equal(begun.code, 0, begun.stderr)
  assert.equal((await atoll(['exec', 'begun', '--', 'cat', 'kept'])).text, 'kept\n')
  const forked = await atoll(['fork', 'begun', '-n', '2', '--name', 'try', '--env', 'COLOUR=red'])
  assert.match(forked.text, /^(sandbox-[0-9a-f-]{36}\n){2}$/)
  assert.equal((await atoll(['exec', 'try-2', '--', 'sh', '-c', 'cat kept; echo $COLOUR'])).text, 'kept\nred\n')
  assert.equal((await atoll(['snapshot', 'rm', 'early'])).text, made.text)
  assert.deepEqual(JSON.parse((await atoll(['snapshot', 'ls', '--json'])).text), [])
  assert.equal((await atoll(['rm', 'begun', ...forked.text.trim().split('\n')])).code, 0)
})

test('exec keeps both streams apart, passes arguments as they are, and ends with the status', async () => {
  const { stdout, stderr, code } = await atoll([
    'exec',
    'demo',
    '--env',
    'X=1',
    '--',
    'sh',
    '-c',
    'echo "$1 $X $COLOUR"; echo err >&2; exit 42',
    'sh',
    'a  b --json',
  ])
  assert.equal(stdout.toString(), 'a  b --json 1 green\n')
  assert.deepEqual([stderr, code], ['err\n', 42])
})

test('exec gives its input to the command, byte for byte', async () => {
  const input = Uint8Array.from({ length: 300_000 }, (_, at) => (at * 13) % 256)
  const { stdout, code } = await atoll(['exec', 'demo', '--', 'cat'], { input })
  assert.equal(code, 0)
  assert.ok(stdout.equals(input))
})

test('exec ends with the command when its own input stays open', async () => {
  assert.equal((await atoll(['exec', 'demo', '--', 'sh', '-c', 'exit 6'], { isInputOpen: true })).code, 6)
  assert.equal((await atoll(['exec', 'demo', '-n', '--', 'cat'], { isInputOpen: true })).code, 0)
})

test('exec passes a signal on, and the command decides what it means', async () => {
  const script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done"
  const { text, code } = await atoll(['exec', 'demo', '--', 'sh', '-c', script], {
    isInputOpen: true,
    onStart: (child) => child.stdout?.once('data', () => child.kill('SIGINT')),
  })
  assert.equal(text, 'ready\ncaught\n')
  assert.equal(code, 9)
})

test('exec says that a command took too long', async () => {
  const { stderr, code } = await atoll(['exec', 'demo', '--timeout', '0.5s', '--', 'sleep', '60'])
  assert.match(stderr, /did not end within/)
  assert.notEqual(code, 0)
})

test('exec for programs gives one document, and the status all the same', async () => {
  const { text, code } = await atoll(['exec', 'demo', '--json', '--', 'sh', '-c', 'echo out; echo err >&2; exit 5'])
  const { stdout, stderr, exit_code, exit } = JSON.parse(text)
  assert.deepEqual(
    { stdout, stderr, exit_code, exit },
    { stdout: 'out\n', stderr: 'err\n', exit_code: 5, exit: { type: 'exited', code: 5 } },
  )
  assert.equal(code, 5)
})

test('files and folders are copied in and out with their bits', async () => {
  const tree = path.join(folder, 'tree')
  mkdirSync(path.join(tree, 'inner'), { recursive: true })
  writeFileSync(path.join(tree, 'run.sh'), '#!/bin/sh\necho ran\n')
  chmodSync(path.join(tree, 'run.sh'), 0o755)
  writeFileSync(
    path.join(tree, 'inner/data.bin'),
    Uint8Array.from({ length: 70_000 }, (_, at) => at % 256),
  )
  symlinkSync('/etc', path.join(tree, 'link-out'))
  const sent = await atoll(['cp', tree, 'demo:copied'])
  assert.equal(sent.code, 0, sent.stderr)
  assert.match(sent.stderr, /link-out is a link and was left out/)
  assert.equal((await atoll(['exec', 'demo', '--', './copied/run.sh'])).text, 'ran\n')
  const back = path.join(folder, 'back')
  assert.equal((await atoll(['cp', 'demo:copied', back])).code, 0)
  assert.deepEqual(readFileSync(path.join(back, 'inner/data.bin')), readFileSync(path.join(tree, 'inner/data.bin')))
  assert.equal(statSync(path.join(back, 'run.sh')).mode & 0o777, 0o755)
  const into = await atoll(['cp', 'demo:copied/run.sh', `${folder}/`, '--json'])
  assert.deepEqual(JSON.parse(into.text), { files: 1, bytes: 19 })
  assert.equal(readFileSync(path.join(folder, 'run.sh'), 'utf8'), '#!/bin/sh\necho ran\n')
})

test('a file is copied from standard input and to standard output', async () => {
  assert.equal((await atoll(['cp', '-', 'demo:typed.txt'], { input: 'typed\n' })).code, 0)
  assert.equal((await atoll(['cp', 'demo:typed.txt', '-'])).text, 'typed\n')
})

test('a link in a sandbox is not followed out of the folder that is copied', async () => {
  await atoll(['exec', 'demo', '--', 'sh', '-c', 'mkdir -p trap && ln -s /etc/passwd trap/passwd && echo ok > trap/ok'])
  const target = path.join(folder, 'trapped')
  const { stderr, code } = await atoll(['cp', 'demo:trap', target])
  assert.equal(code, 0)
  assert.match(stderr, /passwd is a symlink and was left out/)
  assert.throws(() => statSync(path.join(target, 'passwd')))
  assert.equal(readFileSync(path.join(target, 'ok'), 'utf8'), 'ok\n')
})

test('a background process is listed, and its log printed up to now or to its end', async () => {
  const { body } = await operator.call('GET', '/api/sandboxes?limit=500')
  const { id } = body.sandboxes.find(({ name }: { name: string }) => name === 'demo')
  const started = await operator.call('POST', `/api/sandboxes/${id}/processes`, {
    body: { command: 'echo one; read x; echo two', stdin: 'open' },
  })
  const process = started.body.id
  assert.match((await atoll(['ps', 'demo'])).text, new RegExp(`${process} +\\d+ +running`))
  let now = ''
  const deadline = Date.now() + 10_000
  while (now === '' && Date.now() < deadline) now = (await atoll(['logs', 'demo', process.slice(0, 10)])).text
  assert.equal(now, 'one\n')
  let typing: Promise<unknown> | undefined
  const followed = atoll(['logs', 'demo', process, '-f'], {
    onStart: (child) => {
      child.stdout?.once('data', () => {
        typing = operator.call('POST', `/api/sandboxes/${id}/processes/${process}/stdin?close=true`, {
          body: 'go\n',
          headers: { 'content-type': 'application/octet-stream' },
        })
      })
    },
  })
  assert.equal((await followed).text, 'one\ntwo\n')
  await typing
  assert.match((await atoll(['ps', 'demo'])).text, new RegExp(`${process} .*exited 0`))
})

test('a shell runs what is typed and ends with its status', async () => {
  const { text, code } = await atoll(['shell', 'demo'], { input: 'echo $((6*7)); exit 4\n' })
  assert.match(text, /42/)
  assert.equal(code, 4)
})

test('a shell on a real terminal is left with a key, goes on, and is come back to', async () => {
  const quoted = [process.execPath, path.join(import.meta.dirname, '../bin/atoll.mjs'), 'shell', 'demo']
    .map((part) => `'${part}'`)
    .join(' ')
  const onTerminal = (extra: string, steps: readonly (readonly [seen: RegExp, typed: string])[]): Promise<string> =>
    new Promise((resolve) => {
      const env = { PATH: process.env['PATH'], ATOLL_URL: operator.url, ATOLL_API_KEY: operator.adminKey, TERM: 'xterm' }
      const child = spawn('script', ['-qefc', `${quoted}${extra}`, '/dev/null'], { env })
      const rest = [...steps]
      let shown = ''
      child.stdout.on('data', (chunk: Buffer) => {
        shown += chunk.toString()
        if (rest[0]?.[0].test(shown)) child.stdin.write(rest.shift()?.[1] ?? '')
      })
      child.once('close', () => resolve(shown))
    })
  const left = await onTerminal('', [
    [/[$#] /, 'echo left-$((40+2)) \r'],
    [/left-42/, '\x1d'],
  ])
  const [, terminal] = /--attach (\S+)/.exec(left) ?? []
  assert.ok(terminal, left)
  const back = await onTerminal(` --attach ${terminal}`, [[/left-42/, 'tty; exit\r']])
  assert.match(back, /\/dev\/pts\//)
})

test('a sandbox is stopped and resumed by its name', async () => {
  assert.match((await atoll(['pause', 'demo'])).text, /^sandbox-/)
  assert.equal(
    JSON.parse((await atoll(['set', 'demo', '--idle-timeout', '5m', '--auto-resume', '--json'])).text)[0].idle_timeout_seconds,
    300,
  )
  assert.match((await atoll(['exec', 'demo', '--', 'echo', 'woken'])).text, /woken/)
  assert.equal((await atoll(['set', 'demo', '--no-auto-resume'])).code, 0)
  assert.match((await atoll(['stop', 'demo'])).text, /^sandbox-/)
  assert.match((await atoll(['exec', 'demo', '--', 'true'])).stderr, /not running|stopped/i)
  assert.equal(JSON.parse((await atoll(['resume', 'demo', '--json'])).text)[0].status, 'running')
  assert.equal((await atoll(['exec', 'demo', '--', 'true'])).code, 0)
})

test('a link to a port is printed', async () => {
  assert.match((await atoll(['url', 'demo', '8000', '--ttl', '5m'])).text, /^http:\/\/\S+\n$/)
  const { stderr, code } = await atoll(['url', 'demo', '9', '--json'])
  assert.deepEqual([JSON.parse(stderr).code, code], ['port.not_exposed', 1])
})

test('a key is made, used, listed and revoked', async () => {
  const { text: key } = await atoll(['keys', 'create', '--name', 'ci', '--scope', 'read', '--ttl', '1h'])
  assert.equal((await atoll(['ls', '--key', key.trim()])).code, 0)
  const listed = JSON.parse((await atoll(['keys', 'ls', '--json'])).text)
  const { id } = listed.find(({ name }: { name: string }) => name === 'ci')
  assert.equal((await atoll(['keys', 'rm', id])).code, 0)
  const refused = await atoll(['ls', '--key', key.trim(), '--json'])
  assert.deepEqual([JSON.parse(refused.stderr).code, refused.code], ['auth.invalid', 1])
})

test('rm goes on with the others when one is not there, and ends with 1', async () => {
  await atoll(['create', '--name', 'short-lived', '--memory', '512m', '--disk', '1g'])
  const { text, stderr, code } = await atoll(['rm', 'not-there', 'short-lived'])
  assert.match(text, /^sandbox-/)
  assert.match(stderr, /not-there/)
  assert.equal(code, 1)
})

test('what is typed wrongly ends with 2, and what fails with 1 and its code', async () => {
  for (const args of [['nonsense'], ['exec', 'demo'], ['create', '--memory', 'much'], ['cp', 'here', 'there'], ['ls', '--state', 'odd']]) {
    assert.equal((await atoll(args)).code, 2, args.join(' '))
  }
  const missing = await atoll(['stop', 'not-there', '--json'])
  assert.deepEqual([JSON.parse(missing.stderr).code, missing.code], ['sandbox.not_found', 1])
  const unreachable = await bare(['ls', '--json', '--url', 'http://127.0.0.1:1', '--key', 'x'])
  assert.deepEqual([JSON.parse(unreachable.stderr).code, unreachable.code], ['operator.unreachable', 1])
})

test('the admin key of this machine is used for an operator here, and is sent to no other', async () => {
  const env = { ATOLL_STATE_DIR: path.join(operator.folder, 'state') }
  assert.equal((await bare(['ls', '--url', operator.url], { env })).code, 0)
  const seen: (string | undefined)[] = []
  const stranger = http.createServer((request, response) => {
    seen.push(request.headers.authorization)
    response.writeHead(401).end(JSON.stringify({ error: 'who?', code: 'auth.missing' }))
  })
  // Another address of the loopback network: not one that an operator of this machine is reached by.
  stranger.listen(0, '127.0.0.2')
  await once(stranger, 'listening')
  const address = stranger.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const { stderr } = await bare(['ls', '--json', '--url', `http://127.0.0.2:${port}`], { env })
  stranger.close()
  assert.equal(JSON.parse(stderr).code, 'auth.missing')
  assert.deepEqual(seen, [undefined])
})

test('doctor looks at this machine and names a runtime', async () => {
  const { text, code } = await bare(['doctor', '--json'])
  const { strongest, checks } = JSON.parse(text)
  assert.equal(code, 0, text)
  assert.ok(['docker', 'namespace'].includes(strongest.runtime))
  const ids = new Set(checks.map(({ id }: { id: string }) => id))
  for (const id of ['kernel', 'node', 'engine', 'bubblewrap', 'user-namespaces', 'kvm', 'cgroups', 'disk', 'loop'])
    assert.ok(ids.has(id), id)
  assert.match((await bare(['doctor'])).text, /Strongest safe runtime: /)
})

test('serve runs an operator until it is told to stop', async () => {
  const state = path.join(folder, 'serve')
  const env = { ATOLL_RUN_DIR: path.join(folder, 'run') }
  const { code } = await bare(['serve', '--port', '0', '--state-dir', state, '--runtime', 'namespace'], {
    env,
    onStart: async (child) => {
      for (let said = ''; !said.includes('"event":"listening"'); ) said += child.stdout ? await once(child.stdout, 'data') : ''
      child.kill('SIGTERM')
    },
  })
  assert.equal(code, 0)
})

test('what a sandbox may reach is set and shown', async () => {
  const id = await operator.newSandbox({ memory_mb: 256 })
  assert.equal((await atoll(['egress', 'get', id])).text, 'none\n')
  const set = await atoll(['egress', 'set', id, '--preset', 'npm', '--allow', 'GET,HEAD api.example.com/v1', '--allow', '*.example.org'])
  assert.equal(set.code, 0, set.stderr)
  assert.match(set.text, /^allowlist\nHOST +METHODS +PATH +PRESET\napi\.example\.com +GET,HEAD +\/v1 +-\n/)
  assert.match(set.text, /^registry\.npmjs\.org +all +all +npm$/m)
  const shown = JSON.parse((await atoll(['egress', 'get', id, '--json'])).text)
  assert.deepEqual(shown.rules, [{ host: 'api.example.com', methods: ['GET', 'HEAD'], path_prefix: '/v1' }, { host: '*.example.org' }])
  assert.equal((await atoll(['egress', 'set', id, '--mode', 'internet'])).text, 'internet\n')
  for (const bad of [[], ['--allow', 'get example.com'], ['--preset', 'all'], ['--mode', 'some']]) {
    assert.equal((await atoll(['egress', 'set', id, ...bad])).code, 2, bad.join(' '))
  }
  assert.equal((await atoll(['egress', 'set', id, '--allow', '10.0.0.1'])).code, 1)
  assert.equal((await atoll(['egress', 'get', id])).text, 'internet\n')
})

test('services and provider keys are made, shown, sealed anew and removed, and a key comes on standard input and never back', async () => {
  const id = (
    await atoll(['service', 'create', 'lab', '--owner', 'zoe', '--member', 'bob', '--sandboxes', '2', '--memory', '4g'])
  ).text.trim()
  assert.match(id, /^\d+$/)
  const listed = (await atoll(['service', 'ls'])).text
  assert.match(listed, new RegExp(`^${id} +lab +zoe \\(default\\) +cloud +bob +\\d+s +sandboxes=2,memory_mb=4096$`, 'm'))
  assert.equal((await atoll(['service', 'set', id, '--no-members', '--disk', '9g'])).code, 0)
  const [service] = JSON.parse((await atoll(['service', 'ls', '--json'])).text).filter((one: { id: number }) => one.id === Number(id))
  assert.deepEqual([service.members, service.quotas.disk_gb, service.quotas.sandboxes], [[], 9, 2])

  const key = 'sk-typed-into-the-command-4711'
  const set = await atoll(['provider-key', 'set', 'custom:mine', '--service', id, '--base-url', 'https://m.example.com/v1'], {
    input: `${key}\n`,
  })
  assert.deepEqual([set.code, set.text], [0, 'custom:mine\n'], set.stderr)
  const keys = (await atoll(['provider-key', 'ls', '--service', id])).text
  assert.match(keys, /^custom:mine +…4711 +\d+s +never +https:\/\/m\.example\.com\/v1$/m)
  assert.ok(!keys.includes(key))
  assert.equal((await atoll(['provider-key', 'set', 'openai'], { input: '' })).code, 2)
  const unknown = await atoll(['provider-key', 'set', 'nobody', '--json'], { input: key })
  assert.deepEqual([unknown.code, JSON.parse(unknown.stderr).code], [1, 'provider.unknown'])
  assert.match(
    (await atoll(['usage', '--by', 'day,model', '--service', id])).text,
    /^DAY +MODEL +CALLS +FAILED +INPUT +CACHED +OUTPUT +COST/,
  )
  assert.deepEqual(JSON.parse((await atoll(['usage', '--json'])).text), [])
  assert.equal((await atoll(['usage', '--by', 'colour'])).code, 2)
  assert.equal((await atoll(['provider-key', 'rm', 'custom:mine', '--service', id])).text, 'custom:mine\n')
  assert.equal((await atoll(['service', 'rm', id])).text, `${id}\n`)
  const rotated = await atoll(['keys', 'rotate'])
  assert.match(rotated.text, /^k[0-9a-f]{8}\n$/)
  assert.match(rotated.stderr, /^\d+ secrets are sealed under it\.$/m)
})
