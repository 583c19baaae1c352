// npm start, as a person on a machine of their own meets it.
import assert from 'node:assert/strict'
import { chmodSync, cpSync, existsSync, mkdirSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { describe, test } from 'node:test'
import { testRuntimes } from './runtimes.ts'
import { Home, root } from './start-process.ts'

/** Hides bubblewrap from a program by a mount that no other program sees. */
const withoutBubblewrap = (folder: string): string[] => {
  mkdirSync(folder)
  const hide = [
    `mount -t tmpfs tmpfs ${folder}`,
    `mkdir ${folder}/upper ${folder}/work`,
    `mknod ${folder}/upper/bwrap c 0 0`,
    `mount -t overlay overlay -o lowerdir=/usr/bin,upperdir=${folder}/upper,workdir=${folder}/work /usr/bin`,
  ]
  return ['unshare', '--mount', 'sh', '-c', `${hide.join(' && ')} && exec "$@"`, 'sh']
}

/** The scripts on a fresh machine: nothing from npm is there. */
function freshCopy(folder: string): string {
  const copy = path.join(folder, 'copy')
  mkdirSync(copy)
  const packages = ['protocol', 'operator', 'sidecar', 'sdk', 'cli'].map((name) => `${name}/package.json`)
  for (const name of ['scripts', 'cli/bin', 'package.json', 'package-lock.json', ...packages]) {
    cpSync(path.join(root, name), path.join(copy, name), { recursive: true })
  }
  return copy
}

async function postLink(url: string, code: string): Promise<{ status: number; token: string | undefined }> {
  const response = await fetch(`${url}/api/auth/link`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ code }),
  })
  const body = (await response.json()) as { token?: string }
  return { status: response.status, token: body.token }
}

for (const { name: runtime, skip } of testRuntimes) {
  test(`--once on ${runtime} ends with status 0, its timings alone on standard output, and leaves nothing`, { skip }, async () => {
    await using home = await Home.make()
    const start = home.start(['--once', '--json', '--runtime', runtime])
    assert.equal(await start.ended, 0, start.stderr)
    const { ok, runtime: used, timings, output } = JSON.parse(start.stdout)
    assert.deepEqual([ok, used], [true, runtime])
    for (const step of [
      'install_ms',
      'operator_ms',
      'create_ms',
      'exec_ms',
      'write_ms',
      'read_ms',
      'agent_ms',
      'delete_ms',
      'first_output_ms',
    ])
      assert.ok(Number.isFinite(timings[step]), step)
    assert.match(output, /^I am agent in \/home\/agent\/workspace/)
    assert.match(start.stderr, /ms {2}create a sandbox/)
    assert.deepEqual(await home.leftovers(), [])
  })
}

describe('without --once', () => {
  test('it says what to type next, its sign-in link works once, and Ctrl-C ends it well and leaves the sandbox', async () => {
    await using home = await Home.make()
    const start = home.start(['--json', '--runtime', 'namespace'])
    const [, url = '', code = ''] = await start.shows(/Sign in once.*: (http:\/\/127\.0\.0\.1:\d+)\/#code=(\S+)/)
    for (const line of [`export ATOLL_URL=${url}`, `export ATOLL_STATE_DIR=${home.folder}/state`, 'npx atoll exec first', 'until Ctrl-C'])
      assert.ok(start.stderr.includes(line), line)
    const { status, token } = await postLink(url, code)
    assert.equal(status, 200)
    const list = await fetch(`${url}/api/sandboxes`, { headers: { authorization: `Bearer ${token}` } })
    assert.equal(((await list.json()) as { sandboxes: { name: string }[] }).sandboxes[0]?.name, 'first')
    assert.equal((await postLink(url, code)).status, 401)

    start.child.kill('SIGINT')
    assert.equal(await start.ended, 0, start.stderr)
    assert.match(start.stderr, /Stopping the operator; sandboxes go on running/)
    assert.equal(JSON.parse(start.stdout).ok, true)
    assert.deepEqual(await home.leftovers(), [...home.sandboxes(), ...home.mounts()])
    assert.deepEqual([home.sandboxes().length, home.mounts().length], [1, 1])

    // A later start makes no new key, so only a person at a terminal gets a link from it.
    const onTerminal = home.start(['--runtime', 'namespace'], { isOnTerminal: true })
    await onTerminal.shows(/Sign in once.*#code=/)
    onTerminal.child.stdin?.write('\x03')
    assert.equal(await onTerminal.ended, 0, onTerminal.stdout)
    assert.deepEqual(await home.leftovers(), [...home.sandboxes(), ...home.mounts()])
    assert.deepEqual([home.sandboxes().length, home.mounts().length], [1, 1])

    const last = home.start(['--once', '--runtime', 'namespace'])
    assert.equal(await last.ended, 0, last.stderr)
    assert.doesNotMatch(last.stderr, /Sign in/)
    assert.deepEqual(await home.leftovers(), [])
  })

  test('a port that is taken is refused, with who holds it and what to do', async () => {
    await using home = await Home.make()
    const holder = net.createServer((socket) => socket.destroy()).listen(home.port, '127.0.0.1')
    await new Promise((resolve) => holder.once('listening', resolve))
    const start = home.start(['--once'])
    const status = await start.ended
    await new Promise((resolve) => holder.close(resolve))
    assert.equal(status, 1)
    assert.match(start.stderr, new RegExp(`Port ${home.port} is taken \\(process ${process.pid}, .*--port ${home.port + 1}`, 's'))
  })

  test('a second start names the operator that runs, whose death is a failure of the first', async () => {
    await using home = await Home.make()
    const start = home.start(['--runtime', 'namespace'])
    await start.shows(/until Ctrl-C/)
    const second = home.start(['--runtime', 'namespace'])
    assert.equal(await second.ended, 1)
    const [, pid] = /An Atoll operator \S+ runs on port \d+ already \(process (\d+).*npx atoll ls/s.exec(second.stderr) ?? []
    process.kill(Number(pid ?? assert.fail(second.stderr)), 'SIGKILL')
    assert.equal(await start.ended, 1)
    assert.match(start.stderr, /The operator ended with 1/)
  })
})

describe('what is missing', { concurrency: 2 }, () => {
  test('--no-install refuses with the exact commands to type, all at once, and installs nothing', async () => {
    await using home = await Home.make()
    const copy = freshCopy(home.folder)
    const start = home.start(['--no-install', '--json', '--runtime', 'namespace'], {
      wrap: withoutBubblewrap(path.join(home.folder, 'hidden')),
      script: path.join(copy, 'scripts/start.mjs'),
    })
    assert.equal(await start.ended, 1)
    assert.equal(
      start.stderr,
      `Missing packages: bubblewrap. Type:
  apt-get update
  apt-get install -y --no-install-recommends bubblewrap
The packages from npm are not installed. Type:
  npm install --no-audit --no-fund --no-save --omit=dev
`,
    )
    assert.deepEqual(JSON.parse(start.stdout), { ok: false, error: start.stderr.trimEnd() })
    assert.ok(!existsSync(path.join(copy, 'node_modules')) && !existsSync(path.join(home.folder, 'state')))
  })

  for (const [key, name] of [
    ['n\r', 'no'],
    ['\x03', 'Ctrl-C'],
    ['\x04', 'Ctrl-D'],
  ] as const) {
    test(`on a terminal it asks before it installs, and ${name} leaves all as it is`, async () => {
      await using home = await Home.make()
      const wrap = withoutBubblewrap(path.join(home.folder, 'hidden'))
      const start = home.start(['--once', '--runtime', 'namespace'], { wrap, isOnTerminal: true })
      await start.shows(/needs the packages bubblewrap\. Install them with apt-get\? \[Y\/n\] /)
      start.child.stdin?.write(key)
      assert.equal(await start.ended, 1)
      assert.match(start.stdout, /Missing packages: bubblewrap\. Type:\s+apt-get update\s+apt-get install/)
      assert.ok(!existsSync(path.join(home.folder, 'state')))
    })
  }

  test('who is not root is told so before anything is installed', async () => {
    await using home = await Home.make()
    const start = home.start(['--once'], { wrap: ['setpriv', '--reuid', '65534', '--clear-groups'] })
    assert.equal(await start.ended, 1)
    assert.match(start.stderr, /^Sandboxes have disks.*only root.*sudo npm start\n$/s)
  })

  test('an operator that does not get ready is told in its own words, at once', async () => {
    await using home = await Home.make()
    chmodSync(home.folder, 0o700)
    const start = home.start(['--once', '--runtime', 'namespace'])
    assert.equal(await start.ended, 1)
    assert.match(start.stderr, /The operator does not get ready: the users of sandboxes cannot pass .*npx atoll doctor/s)
    assert.deepEqual(await home.leftovers(), [])
  })

  test('without an engine it uses namespaces, and says so and how to get containers', async () => {
    await using home = await Home.make()
    const start = home.start(['--once', '--json'], { env: { DOCKER_HOST: `unix://${home.folder}/nowhere.sock` } })
    assert.equal(await start.ended, 0, start.stderr)
    assert.equal(JSON.parse(start.stdout).runtime, 'namespace')
    assert.match(start.stderr, /No container engine answers.*weaker wall.*apt-get install docker\.io/s)
  })

  test('an engine that was asked for and does not answer is refused', async () => {
    await using home = await Home.make()
    const start = home.start(['--once', '--runtime', 'docker'], { env: { DOCKER_HOST: `unix://${home.folder}/nowhere.sock` } })
    assert.equal(await start.ended, 1)
    assert.match(start.stderr, /No container engine answers on the socket\. Install one/)
  })
})

describe('the command line', () => {
  for (const [args, reason] of [
    [['--nonsense'], /Unknown option '--nonsense'/],
    [['--runtime', 'bogus'], /No runtime is called bogus\. Use docker or namespace\./],
    [['--port', '0'], /0 is no port/],
    [['extra'], /Unexpected argument 'extra'/],
  ] as const) {
    test(`${args.join(' ')} is status 2, with the reason and the usage`, async () => {
      await using home = await Home.make()
      const start = home.start(args)
      assert.equal(await start.ended, 2)
      assert.match(start.stderr, reason)
      assert.match(start.stderr, /Usage: npm start/)
      assert.equal(start.stdout, '')
    })
  }

  test('--help prints the usage on standard output', async () => {
    await using home = await Home.make()
    const start = home.start(['--help'])
    assert.equal(await start.ended, 0)
    assert.match(start.stdout, /^Usage: npm start.*--no-install/s)
    assert.equal(start.stderr, '')
  })

  test('settings from the environment count when nothing else is said', async () => {
    await using home = await Home.make()
    const start = home.start([], { env: { SANDBOX_RUNTIME_BACKEND: 'nothing' } })
    assert.equal(await start.ended, 2)
    assert.match(start.stderr, /No runtime is called nothing/)
  })
})

describe('Ctrl-C leaves nothing half-made', { concurrency: 2 }, () => {
  test('while packages from npm are installed', async () => {
    await using home = await Home.make()
    const copy = freshCopy(home.folder)
    const start = home.start(['--once', '--runtime', 'namespace'], { script: path.join(copy, 'scripts/start.mjs') })
    await start.shows(/installing packages from npm/)
    await start.makes(path.join(copy, 'node_modules'))
    start.child.kill('SIGINT')
    assert.equal(await start.ended, 130)
    assert.match(start.stderr, /Interrupted by SIGINT\.\n$/)
    assert.ok(!existsSync(path.join(copy, 'node_modules')))
    assert.deepEqual(await home.leftovers(), [])
  })

  test('while the first journey is under way', async () => {
    await using home = await Home.make()
    const start = home.start(['--runtime', 'namespace'])
    await start.shows(/ms {2}create a sandbox/)
    start.child.kill('SIGTERM')
    assert.equal(await start.ended, 143, start.stderr)
    assert.deepEqual(await home.leftovers(), [])
  })

  test('while the operator starts', async () => {
    await using home = await Home.make()
    const start = home.start(['--runtime', 'namespace'])
    // By now it has begun to make disks.
    await start.makes(path.join(home.folder, 'state/blank-disks'))
    while (home.mounts().length === 0 && home.processes().length > 0) await new Promise((resolve) => setTimeout(resolve, 5))
    start.child.kill('SIGINT')
    assert.equal(await start.ended, 130, start.stderr)
    assert.deepEqual(await home.leftovers(), [])
  })
})
