import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { mountsBelow, unmountBelow } from './mounts.ts'
import { openWorkspaceDisks, type WorkspaceDisks } from './workspace-disk.ts'

const owner = { uid: 54_321, gid: 54_321, mountingGid: 54_320 }

async function until(condition: () => boolean | Promise<boolean>, deadlineMs = 10_000): Promise<void> {
  const deadline = Date.now() + deadlineMs
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, 'the condition did not come true in time')
    await delay(20)
  }
}

const loopsOn = (directory: string): string[] =>
  execFileSync('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE'], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.trim().startsWith(directory))

describe('workspace disks', () => {
  let stateDir: string
  let disks: WorkspaceDisks
  let skipReason: string | undefined

  before(async () => {
    const probeDir = mkdtempSync(join(tmpdir(), 'atoll-disk-'))
    const probed = await openWorkspaceDisks({ stateDir: probeDir })
    const support = await probed.support()
    skipReason = support === true ? undefined : support
    await probed.close()
    rmSync(probeDir, { recursive: true })
  })
  beforeEach(async () => {
    stateDir = mkdtempSync(join(tmpdir(), 'atoll-disk-'))
    disks = await openWorkspaceDisks({ stateDir })
  })
  afterEach(async () => {
    await disks.close()
    await unmountBelow(stateDir)
    rmSync(stateDir, { recursive: true, force: true })
  })
  after(() => assert.deepEqual(loopsOn(join(tmpdir(), 'atoll-disk-')), []))

  test('a disk has a home and workspace of its owner and a temporary folder for all', async () => {
    const root = await disks.create('a', 1, owner)
    assert.equal(statSync(join(root, 'home/workspace')).uid, owner.uid)
    assert.equal(statSync(join(root, 'home')).gid, owner.gid)
    assert.equal(statSync(join(root, 'tmp')).mode & 0o7777, 0o1777)
  })

  test('other users of the machine do not get to what is on a disk, and what mounts it does', async () => {
    const root = await disks.create('a', 1, owner)
    writeFileSync(join(root, 'home/secret'), 'x', { mode: 0o644 })
    const read = (uid: number, gid: number) =>
      execFileSync('setpriv', ['--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups', 'ls', join(root, 'home/secret')], {
        encoding: 'utf8',
        stdio: 'pipe',
      })
    chmodSync(stateDir, 0o711)
    assert.match(read(54_999, owner.mountingGid), /secret/)
    assert.throws(() => read(54_999, 54_999), /Permission denied/)
  })

  test('a disk takes no more than its size', async (t) => {
    if (skipReason) return t.skip(skipReason)
    const root = await disks.create('a', 1 / 8, owner)
    const { blocks, bsize } = statfsSync(root)
    assert.ok(blocks * bsize <= 2 ** 27 && blocks * bsize > 2 ** 26)
    assert.throws(() => writeFileSync(join(root, 'home/big'), Buffer.alloc(2 ** 27)), { code: 'ENOSPC' })
  })

  test('a disk keeps its content when it is detached and attached, and when create is repeated', async (t) => {
    if (skipReason) return t.skip(skipReason)
    const root = await disks.create('a', 1, owner)
    writeFileSync(join(root, 'home/kept'), 'content')
    await disks.detach('a')
    await disks.detach('a')
    assert.equal(existsSync(join(root, 'home')), false)
    assert.equal(await disks.attach('a'), root)
    assert.equal(await disks.attach('a'), root)
    assert.equal(await disks.create('a', 1, owner), root)
    assert.equal(readFileSync(join(root, 'home/kept'), 'utf8'), 'content')
  })

  test('removing a disk leaves no file, mount or loop device, and may be repeated', async () => {
    await disks.create('a', 1, owner)
    await disks.remove('a')
    await disks.remove('a')
    await disks.remove('never-made')
    assert.deepEqual(readdirSync(join(stateDir, 'sandboxes/a')), [])
    assert.deepEqual(await mountsBelow(stateDir), [])
    assert.deepEqual(loopsOn(stateDir), [])
  })

  test('a disk in use is removed all the same', async (t) => {
    if (skipReason) return t.skip(skipReason)
    const root = await disks.create('a', 1, owner)
    const user = execFileSync('sh', ['-c', `cd ${root} && (sleep 60 >/dev/null 2>&1 & echo $!)`], { encoding: 'utf8' })
    try {
      await disks.remove('a')
      assert.deepEqual(await mountsBelow(stateDir), [])
    } finally {
      process.kill(Number(user), 'SIGKILL')
    }
    await until(() => loopsOn(stateDir).length === 0)
  })

  test('attaching a disk that does not exist fails', async () => {
    await assert.rejects(disks.attach('missing'))
  })

  test('an id that leaves the folder is refused', async () => {
    for (const id of ['../a', 'a/b', '', '.', '..']) await assert.rejects(disks.create(id, 1, owner))
  })

  test('blank disks are kept ready, claimed by a creation, and not left behind by close', async (t) => {
    if (skipReason) return t.skip(skipReason)
    const ready = await openWorkspaceDisks({ stateDir, readySizeGb: 1 })
    const blanks = () => readdirSync(join(stateDir, 'blank-disks')).filter((name) => name.startsWith('ready-1gb-'))
    await until(() => blanks().length === 2)
    const before = blanks()
    const root = await ready.create('a', 1, owner)
    assert.equal(before.filter((name) => !blanks().includes(name)).length, 1)
    writeFileSync(join(root, 'home/x'), 'x')
    await until(() => blanks().length === 2)
    await ready.close()
    assert.deepEqual(blanks(), [])
    assert.deepEqual(await mountsBelow(stateDir), [root])
  })

  test('blank disks of an interrupted run are reused when they fit and removed when they do not', async (t) => {
    if (skipReason) return t.skip(skipReason)
    const first = await openWorkspaceDisks({ stateDir, readySizeGb: 1 })
    const blanks = () => readdirSync(join(stateDir, 'blank-disks')).filter((name) => name.startsWith('ready-1gb-'))
    await until(() => blanks().length === 2)
    const kept = blanks()
    const second = await openWorkspaceDisks({ stateDir, readySizeGb: 1 })
    await second.create('a', 1, owner)
    assert.equal(blanks().filter((name) => kept.includes(name)).length, 1)
    const third = await openWorkspaceDisks({ stateDir, readySizeGb: 2 })
    assert.deepEqual(blanks(), [])
    for (const opened of [first, second, third]) await opened.close()
  })

  test('a mount outside the state folder is not touched', async (t) => {
    if (skipReason) return t.skip(skipReason)
    const other = await openWorkspaceDisks({ stateDir: `${stateDir}-other` })
    const root = await other.create('a', 1, owner)
    await disks.create('a', 1, owner)
    await disks.remove('a')
    assert.deepEqual(await mountsBelow(`${stateDir}-other`), [root])
    await other.remove('a')
    await other.close()
    rmSync(`${stateDir}-other`, { recursive: true })
  })
})
