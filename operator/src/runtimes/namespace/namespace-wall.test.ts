// What is peculiar to namespace sandboxes, beside the contract of all runtimes.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { openHttpGuest } from '../../guest-channel/http-guest.ts'
import { Box, contextOf, planOf, until } from '../../sandboxes/contract/subject.ts'
import type { Plan, Runtime } from '../../sandboxes/runtime.ts'
import { childrenOf, isAlive } from './process-identity.ts'
import type { SandboxRecord } from './sandbox-folder.ts'
import { callsOf, hostArchitecture } from './seccomp.ts'
import { addBareImage, openTestMachine, type TestMachine } from './testing/machine.ts'
import { lastBase } from './uid-ranges.ts'

const quietPlan = (plan: Partial<Plan> = {}): Plan => planOf({ memoryMb: 256, ...plan })

const processesOfUser = (uid: number): string[] =>
  readdirSync('/proc').filter((name) => {
    const stats = /^\d+$/.test(name) ? statSync(join('/proc', name), { throwIfNoEntry: false }) : undefined
    return stats?.uid === uid
  })

async function startIn(runtime: Runtime, plan: Plan = quietPlan()): Promise<Box> {
  const running = await runtime.start(plan, contextOf())
  const box = new Box(plan, running, openHttpGuest(running.socketPath))
  await box.guest.ready(30_000, AbortSignal.timeout(30_000))
  return box
}

describe('namespace sandboxes', () => {
  let machine: TestMachine
  let runtime: Runtime
  let box: Box

  const start = (plan?: Plan): Promise<Box> => startIn(runtime, plan)
  const recordOf = (id: string): SandboxRecord => JSON.parse(readFileSync(join(machine.stateDir, 'sandboxes', id, 'runtime.json'), 'utf8'))
  const remove = async (each: Box): Promise<void> => {
    each.guest.close()
    await runtime.remove(each.plan.id)
  }
  /** The sidecar's own process, as the host sees it. */
  const sidecarOf = (id: string): number => {
    const [sidecar] = childrenOf(recordOf(id).first?.pid ?? 0)
    assert.ok(sidecar)
    return sidecar
  }

  before(async () => {
    machine = await openTestMachine()
    runtime = machine.create()
    box = await start()
  })
  after(async () => {
    await remove(box)
    await runtime.close()
    await machine.close()
  })

  test('each has host users of its own, which nobody else on the host has', async () => {
    const other = await start()
    const [one, two] = [recordOf(box.plan.id).base, recordOf(other.plan.id).base]
    assert.ok(Math.abs(one - two) >= 65_536)
    const status = readFileSync(`/proc/${sidecarOf(box.plan.id)}/status`, 'utf8')
    assert.match(status, new RegExp(`^Uid:\\t${one}\\t${one}\\t`, 'm'))
    assert.equal(statSync(join(machine.stateDir, 'sandboxes', box.plan.id, 'disk/root/home')).uid, one + 1000)
    await remove(other)
  })

  test('a removed sandbox gives its host users back', async () => {
    const other = await start()
    const entry = join('/var/lib/atoll/uid-ranges', String(recordOf(other.plan.id).base))
    assert.match(readFileSync(entry, 'utf8'), new RegExp(other.plan.id))
    await remove(other)
    assert.ok(!existsSync(entry) || !readFileSync(entry, 'utf8').includes(other.plan.id))
  })

  test('a removal that is cut off half-way is finished by the next one', async () => {
    const other = await start()
    const stuck = join(machine.stateDir, 'sandboxes', other.plan.id, 'stuck')
    mkdirSync(stuck)
    execFileSync('mount', ['-t', 'tmpfs', 'none', stuck])
    try {
      await assert.rejects(runtime.remove(other.plan.id))
      assert.ok(
        (await runtime.list()).some(({ id }) => id === other.plan.id),
        'it can still be found',
      )
    } finally {
      execFileSync('umount', [stuck])
    }
    await remove(other)
    assert.deepEqual(await machine.leftovers(other.plan.id), [])
  })

  test('a sandbox that watches all it can leaves the others, and the host, something to watch with', async () => {
    const greedy = await start()
    const call = process.arch === 'arm64' ? 26 : 294
    const open = (most: number) =>
      `perl -e 'my $n = 0; $n++ while $n < ${most} && syscall(${call}, 0) >= 0; $| = 1; print "$n\\n"; sleep ${most > 1 ? 5 : 0}'`
    await greedy.start({ command: `${open(500)} > taken` })
    await until('it has taken all', async () => (await greedy.sh('cat taken')) !== '')
    assert.equal(await greedy.sh('cat taken'), '32')
    assert.equal(await box.sh(open(1)), '1')
    assert.equal(execFileSync('sh', ['-c', open(1)], { encoding: 'utf8' }), '1\n')
    await remove(greedy)
  })

  test('a sandbox that takes all the terminals it can leaves the others some', async () => {
    const greedy = await start()
    try {
      const take = `perl -e 'my @all; while (@all < 1000 && open(my $one, "+<", "/dev/ptmx")) { push @all, $one } print scalar(@all), " $!"'`
      assert.equal(await greedy.sh(take), '256 No space left on device')
      assert.match(await greedy.sh('grep " /dev/pts " /proc/mounts'), /nosuid,noexec/)
      assert.equal(await box.sh('exec 3<>/dev/ptmx && echo open'), 'open')
    } finally {
      await remove(greedy)
    }
  })

  test('the system calls that undo the wall are refused, and those that programs need are not', async () => {
    const architecture = hostArchitecture()
    assert.ok(architecture)
    const { denied, unshare, ioctl } = callsOf[architecture]
    const attempt = async (number: number, ...args: number[]): Promise<number> => {
      const script = `my $r = syscall(${[number, ...args].join(', ')}); print $r == -1 ? $!+0 : 0`
      return Number(await box.sh(`perl -e '${script}'`))
    }
    const answers = await Promise.all(
      Object.entries(denied).map(async ([name, number]) => [name, await attempt(number, 0, 0, 0, 0, 0)] as const),
    )
    for (const [name, error] of answers) assert.equal(error, 1, `${name} was not refused`)
    assert.equal(await attempt(435, 0, 0), 38)
    assert.equal(await attempt(470), 38)
    assert.equal(await attempt(unshare, 0x1000_0000), 1)
    assert.equal(await attempt(unshare, 0x400), 0)
    assert.equal(await attempt(ioctl, 0, 0x5412, 0), 1)
    assert.equal(await attempt(architecture === 'x64' ? 101 : 117, 0, 0, 0, 0), 0)
  })

  test('the other numbering of x86-64 is refused', async (t) => {
    if (process.arch !== 'x64') return t.skip('only x86-64 has it')
    assert.equal(await box.sh(`perl -e 'my $r = syscall(0x40000000 + 39); print $r == -1 ? $!+0 : "pid"'`), '38')
  })

  test('of the host’s /etc only what programs need is there', async () => {
    const names = (await box.sh('ls /etc')).split('\n')
    const known = [
      'alternatives',
      'group',
      'hostname',
      'hosts',
      'ld.so.cache',
      'localtime',
      'nsswitch.conf',
      'passwd',
      'pki',
      'resolv.conf',
      'ssl',
    ]
    assert.deepEqual(
      names.filter((name) => !known.includes(name)),
      [],
    )
    assert.equal(await box.sh('ls /etc/ssl'), 'certs')
    assert.equal(await box.sh('cut -d: -f1 /etc/passwd | tr "\\n" " "'), 'root agent nobody')
  })

  test('no descriptor of the operator reaches the sidecar', () => {
    const directory = `/proc/${sidecarOf(box.plan.id)}/fd`
    const targets = readdirSync(directory).map((fd) => readlinkSync(join(directory, fd)))
    const foreign = targets.filter((target) => target.startsWith('/') || target.includes('user:'))
    const allowed = ['/dev/null', join(machine.stateDir, 'sandboxes', box.plan.id, 'sidecar.log')]
    assert.deepEqual(
      foreign.filter((target) => !allowed.includes(target)),
      [],
    )
  })

  test('a sandbox whose sidecar has died is stopped, and leaves no process behind', async () => {
    const other = await start()
    await other.start({ command: 'trap "" TERM HUP; setsid sleep 4444 & sleep 4444' })
    const { monitor } = recordOf(other.plan.id)
    assert.ok(monitor)
    process.kill(sidecarOf(other.plan.id), 'SIGKILL')
    await until('bubblewrap has ended', () => Promise.resolve(!isAlive(monitor)))
    const observed = (await runtime.list()).find(({ id }) => id === other.plan.id)
    assert.equal(observed?.state, 'stopped')
    assert.deepEqual(
      (await machine.leftovers(other.plan.id)).filter((left) => left.startsWith('process')),
      [],
    )
    const again = new Box(other.plan, await runtime.resume(other.plan, contextOf()), openHttpGuest(other.running.socketPath))
    assert.equal(await again.sh('echo back'), 'back')
    again.guest.close()
    await remove(other)
  })

  test('a folder of another runtime is neither listed nor removed', async () => {
    const foreign = join(machine.stateDir, 'sandboxes/foreign')
    mkdirSync(foreign)
    writeFileSync(join(foreign, 'docker'), '')
    assert.ok(!(await runtime.list()).some(({ id }) => id === 'foreign'))
    await runtime.stop('foreign')
    await runtime.remove('foreign')
    assert.ok(existsSync(join(foreign, 'docker')))
    rmSync(foreign, { recursive: true })
  })

  test('the log of a sidecar is kept short', async () => {
    const log = join(machine.stateDir, 'sandboxes', box.plan.id, 'sidecar.log')
    appendFileSync(log, 'x'.repeat(2 * 1024 * 1024))
    await runtime.list()
    assert.ok(statSync(log).size <= 1024 * 1024)
    assert.equal(await box.sh('echo alive'), 'alive')
  })

  test('an image brings its own files, without its passwords, and the sandbox user', async () => {
    const image = addBareImage(machine, 'bare')
    const other = await start(quietPlan({ image }))
    assert.equal(other.running.image, image)
    const script = `const fs = require('fs'); const see = (p) => { try { return fs.readFileSync(p, 'utf8') } catch (e) { return e.code } }
      console.log(JSON.stringify([see('/etc/passwd'), see('/etc/shadow'), see('/etc/own/setting'), fs.existsSync('/usr/bin/env')]))`
    const result = await other.exec({ argv: ['/opt/atoll/node', '-e', script] })
    assert.equal(result.stderr, '')
    const [passwd, shadow, setting, hasHostPrograms] = JSON.parse(result.stdout)
    assert.deepEqual(String(passwd).match(/^\w+/gm), ['root', 'other', 'agent'])
    assert.deepEqual([shadow, setting, hasHostPrograms], ['ENOENT', 'of the image\n', false])
    await remove(other)
  })

  test('state of the operator below /usr is not visible', async () => {
    const hidden = await openTestMachine('/usr/local/lib')
    const secret = join(hidden.stateDir, 'secret')
    writeFileSync(secret, 'secret', { mode: 0o644 })
    const other = hidden.create()
    try {
      const inside = await startIn(other)
      await inside.refuses(`cat ${secret}`)
      assert.equal(await inside.sh(`ls -A ${hidden.stateDir}`), '')
      inside.guest.close()
      await other.remove(inside.plan.id)
    } finally {
      await other.close()
      await hidden.close()
    }
  })

  test('an operator that dies before it has told a launcher what to make leaves no process', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'atoll-launcher-'))
    const script = `
      import { openLauncher } from ${JSON.stringify(join(import.meta.dirname, 'launcher.ts'))}
      const launcher = await openLauncher({ base: ${lastBase}, logPath: ${JSON.stringify(join(directory, 'log'))}, seccompPath: '/dev/null', command: ['/bin/true'] })
      console.log(JSON.stringify(launcher.process))
      setInterval(() => undefined, 1000)`
    const operator = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [line] = await once(operator.stdout, 'data')
    const launcher = JSON.parse(String(line))
    assert.ok(isAlive(launcher))
    operator.kill('SIGKILL')
    await until('the launcher and all that it made have ended', () =>
      Promise.resolve(!isAlive(launcher) && processesOfUser(lastBase).length === 0),
    )
    rmSync(directory, { recursive: true })
  })

  test('a state folder that sandboxes cannot pass makes the runtime unavailable, with what to do', async () => {
    const closed = mkdtempSync(join(tmpdir(), 'atoll-closed-'))
    const inside = await openTestMachine(closed)
    const other = inside.create()
    chmodSync(closed, 0o700)
    const probe = await other.probe(AbortSignal.timeout(30_000))
    assert.equal(probe.available, false)
    assert.match(probe.reason ?? '', new RegExp(`chmod o\\+x ${closed}`))
    await assert.rejects(other.start(quietPlan(), contextOf()), { code: 'runtime.unavailable' })
    await other.close()
    await inside.close()
    rmSync(closed, { recursive: true })
  })

  test('an id that cannot be a folder’s name is refused', async () => {
    for (const id of ['../x', 'a/b', '', '.', '-x'])
      await assert.rejects(runtime.start(quietPlan({ id }), contextOf()), { code: 'request.invalid' })
  })

  test('a guest channel whose path the kernel would cut off is refused before anything is made', async () => {
    const deep = mkdtempSync(join(tmpdir(), `atoll-${'y'.repeat(60)}-`))
    const inside = await openTestMachine(deep)
    const other = inside.create()
    const plan = quietPlan({ id: `long-${'x'.repeat(40)}` })
    await assert.rejects(other.start(plan, contextOf()), { code: 'config.invalid' })
    assert.deepEqual(await inside.leftovers(plan.id), [])
    await other.close()
    await inside.close()
    rmSync(deep, { recursive: true })
  })
})
