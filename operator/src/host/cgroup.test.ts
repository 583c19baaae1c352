import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Cgroups, openCgroups } from './cgroup.ts'
import { readCgroupLayout } from './cgroup-layout.ts'

describe('control groups of this machine', () => {
  const name = `test-${randomBytes(4).toString('hex')}`
  let groups: Cgroups

  before(() => {
    groups = openCgroups({ name })
  })
  after(async () => {
    for (const id of ['a', 'b']) {
      await groups.kill(id)
      await groups.remove(id)
    }
    groups.close()
    for (const root of readCgroupLayout().v1.values()) assert.equal(existsSync(join(root, 'atoll', name)), false)
  })

  /** A shell in group `a` that waits for a line on standard input before it runs the script. */
  async function inGroup(script: string): Promise<ChildProcess> {
    const child = spawn('sh', ['-c', `read _; ${script}`], { stdio: ['pipe', 'pipe', 'ignore'] })
    assert.ok(child.pid)
    await groups.add('a', child.pid)
    child.stdin?.end('go\n')
    return child
  }

  test('a process beyond the memory limit is killed, and counted', async (t) => {
    if (groups.support().memory !== true) return t.skip(String(groups.support().memory))
    groups.create('a', { memoryMb: 32, cpuCores: 1, pids: 50 })
    const before = groups.oomKills('a')
    const [code, signal] = await once(await inGroup('exec head -c 200000000 /dev/zero | tail'), 'exit')
    assert.ok(signal === 'SIGKILL' || code !== 0)
    assert.ok(groups.oomKills('a') > before)
  })

  test('limits may be given again, lower and higher', () => {
    groups.create('a', { memoryMb: 64, cpuCores: 2, pids: 20 })
    groups.create('a', { memoryMb: 16, cpuCores: 0.5, pids: 10 })
    groups.create('a', { memoryMb: 128, cpuCores: 1, pids: 50 })
  })

  test('no process is born beyond the process limit', async (t) => {
    if (groups.support().pids !== true) return t.skip(String(groups.support().pids))
    groups.create('a', { memoryMb: 128, cpuCores: 1, pids: 5 })
    const [code] = await once(await inGroup('for i in 1 2 3 4 5 6 7 8; do sleep 30 & done'), 'exit')
    assert.notEqual(code, 0)
    assert.ok(groups.pids('a').length <= 5)
    await groups.kill('a')
    assert.deepEqual(groups.pids('a'), [])
  })

  test('processor time is held to the quota and accounted', async (t) => {
    if (groups.support().cpu !== true) return t.skip(String(groups.support().cpu))
    groups.create('a', { memoryMb: 128, cpuCores: 0.2, pids: 50 })
    const before = groups.usage('a').cpuMs ?? 0
    await once(await inGroup('timeout 1 sh -c "while :; do :; done"'), 'exit')
    const used = (groups.usage('a').cpuMs ?? 0) - before
    assert.ok(used > 20 && used < 600, `used ${used} ms in a second of a fifth of a processor`)
  })

  test('children of a process are in its group, and killing ends them all', async () => {
    groups.create('a', { memoryMb: 128, cpuCores: 1, pids: 50 })
    const child = await inGroup('setsid sleep 300 & setsid sleep 300 & echo started; wait')
    assert.ok(child.stdout)
    await once(child.stdout, 'data')
    assert.equal(groups.usage('a').pids, 3)
    assert.ok(groups.pids('a').includes(child.pid ?? 0))
    await groups.kill('a')
    assert.equal(groups.usage('a').pids, 0)
  })

  test('removing takes the group out of every hierarchy, and may be repeated', async () => {
    groups.create('b', { memoryMb: 128, cpuCores: 1, pids: 50 })
    await groups.remove('b')
    await groups.remove('b')
    await groups.kill('b')
    const left = execFileSync('find', ['/sys/fs/cgroup', '-type', 'd', '-path', `*atoll/${name}/b`], { encoding: 'utf8' })
    assert.equal(left, '')
  })

  test('an id that leaves the folder is refused', () => {
    for (const id of ['../x', 'a/b', '', '..']) assert.throws(() => groups.create(id, { memoryMb: 1, cpuCores: 1, pids: 1 }))
    assert.throws(() => openCgroups({ name: '../x' }))
  })
})

describe('control groups of version 2', () => {
  let root: string
  const layoutOf = (given: string) => readCgroupLayout(`1 0 0:1 / ${given} rw - cgroup2 cgroup2 rw\n`)

  /** Files as the kernel would make them with the directory. */
  function layOut(available: string): void {
    root = mkdtempSync(join(tmpdir(), 'atoll-cgroup-'))
    writeFileSync(join(root, 'cgroup.controllers'), available)
    mkdirSync(join(root, 'atoll/op/a'), { recursive: true })
    for (const level of ['', 'atoll', 'atoll/op']) writeFileSync(join(root, level, 'cgroup.subtree_control'), '')
  }
  after(() => rmSync(root, { recursive: true, force: true }))

  test('controllers are handed down from the root, and limits written without swap', async () => {
    layOut('cpuset cpu io memory pids\n')
    writeFileSync(join(root, 'atoll/op/a/memory.swap.max'), 'max')
    const groups = openCgroups({ name: 'op', layout: layoutOf(root) })
    assert.deepEqual(groups.support(), { memory: true, cpu: true, pids: true })
    for (const level of ['', 'atoll', 'atoll/op'])
      assert.match(readFileSync(join(root, level, 'cgroup.subtree_control'), 'utf8'), /^\+\w+$/)
    groups.create('a', { memoryMb: 256, cpuCores: 1.5, pids: 64 })
    const written = (file: string): string => readFileSync(join(root, 'atoll/op/a', file), 'utf8')
    assert.equal(written('memory.max'), String(256 * 1024 * 1024))
    assert.equal(written('memory.swap.max'), '0')
    assert.equal(written('cpu.max'), '150000 100000')
    assert.equal(written('pids.max'), '64')
    await groups.add('a', 4242)
    assert.equal(written('cgroup.procs'), '4242')
    rmSync(root, { recursive: true })
  })

  test('usage and kills by the kernel are read from its tables', () => {
    layOut('cpu memory pids')
    writeFileSync(join(root, 'atoll/op/a/memory.events'), 'low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 0\n')
    writeFileSync(join(root, 'atoll/op/a/memory.current'), '4096\n')
    writeFileSync(join(root, 'atoll/op/a/cpu.stat'), 'usage_usec 2500000\nuser_usec 1\n')
    writeFileSync(join(root, 'atoll/op/a/cgroup.procs'), '11\n12\n')
    const groups = openCgroups({ name: 'op', layout: layoutOf(root) })
    assert.deepEqual(groups.usage('a'), { memoryBytes: 4096, cpuMs: 2500, pids: 2 })
    assert.equal(groups.oomKills('a'), 3)
    assert.deepEqual(groups.pids('a'), [11, 12])
    rmSync(root, { recursive: true })
  })

  test('a controller that is not delegated is reported, with the place', () => {
    layOut('cpu pids')
    const groups = openCgroups({ name: 'op', layout: layoutOf(root) })
    assert.equal(groups.support().cpu, true)
    assert.match(String(groups.support().memory), /memory controller is not available at/)
    groups.create('a', { memoryMb: 256, cpuCores: 1, pids: 64 })
    assert.equal(existsSync(join(root, 'atoll/op/a/memory.max')), false)
    rmSync(root, { recursive: true })
  })

  test('a machine without control groups supports no limit', () => {
    const groups = openCgroups({ name: 'op', layout: { v1: new Map(), v2: undefined } })
    assert.match(String(groups.support().pids), /no pids control group/)
    groups.create('a', { memoryMb: 256, cpuCores: 1, pids: 64 })
    assert.deepEqual(groups.usage('a'), { memoryBytes: undefined, cpuMs: undefined, pids: 0 })
    assert.equal(groups.oomKills('a'), 0)
  })

  test('controllers of a hybrid machine are each found where they are', () => {
    layOut('memory')
    const hybrid = `1 0 0:1 / /a/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n${`1 0 0:1 / ${root} rw - cgroup2 cgroup2 rw\n`}`
    const layout = readCgroupLayout(hybrid)
    assert.equal(layout.v1.get('cpu'), '/a/cpu,cpuacct')
    assert.deepEqual([...(layout.v2?.controllers ?? [])], ['memory'])
    rmSync(root, { recursive: true })
  })
})
