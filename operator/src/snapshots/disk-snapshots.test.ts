import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { Failure } from '@atoll/protocol'
import { unmountBelow } from '../host/mounts.ts'
import { openWorkspaceDisks, type WorkspaceDisks } from '../host/workspace-disk.ts'
import type { SnapshotRecord } from '../sandboxes/snapshot-store.ts'
import { Keyring } from '../secrets/keyring.ts'
import { DiskSnapshots } from './disk-snapshots.ts'

const owner = { uid: 54_321, gid: 54_321, mountingGid: 54_320 }
const other = { uid: 154_321, gid: 154_321, mountingGid: 154_320 }
const never = new AbortController().signal
const silent = (): void => undefined

let folder: string
let disks: WorkspaceDisks
let files: DiskSnapshots
let seal: Keyring

before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'atoll-snapshots-'))
  chmodSync(folder, 0o711)
  disks = await openWorkspaceDisks({ stateDir: folder })
  seal = await Keyring.open({ stateDir: folder })
  files = new DiskSnapshots({ stateDir: folder, disks, seal })
})
after(async () => {
  await disks.close()
  await unmountBelow(folder)
  rmSync(folder, { recursive: true, force: true })
})

const record = (id: string): SnapshotRecord => ({
  id,
  owner: 'ann',
  sandboxId: 'one',
  serviceId: 1,
  name: id,
  state: 'creating',
  error: undefined,
  template: {
    runtime: 'namespace',
    image: 'host',
    agentIdentifier: '',
    cpuCores: 1,
    memoryMb: 128,
    diskGb: 1,
    ports: [],
    metadata: {},
    capabilities: [],
    egress: undefined,
    bytes: 0,
  },
  keySealed: files.newKey(id),
  sizeBytes: 0,
  createdAt: 0,
})

const isFull = (error: unknown): boolean => error instanceof Failure && error.code === 'capacity.exhausted' && error.status === 507

test('a disk that is mounted and written to is copied, packed, and is the same for another owner', async () => {
  const root = await disks.create('one', 1, owner)
  const text = randomBytes(5_000_000)
  writeFileSync(path.join(root, 'home/text'), text)
  execFileSync('chown', ['54322:54320', path.join(root, 'home/text')])
  execFileSync('chmod', ['6755', path.join(root, 'home/text')])
  const one = record('snapshot-1')
  await files.copy('one', one.id, never)
  writeFileSync(path.join(root, 'home/text'), 'changed since')
  const told: number[] = []
  assert.ok((await files.pack(one, never, (share) => told.push(share))) > text.length)
  assert.ok(told.length > 0 && told.every((share) => share >= 0 && share <= 1))
  await files.dropCopy(one.id)
  const image = await files.unpack(one, 'two', never)
  const copied = await disks.createFrom('two', { image, sizeGb: 1 }, other)
  assert.deepEqual(readFileSync(path.join(copied, 'home/text')), text)
  const seen = execFileSync('stat', [
    '-c',
    '%u %g %a',
    path.join(copied, 'home/text'),
    path.join(copied, 'home'),
    path.join(copied, 'tmp'),
    copied,
  ])
  assert.equal(seen.toString(), '154322 154320 6755\n154321 154321 755\n0 0 1777\n0 154320 710\n')
  await files.dropCopy('two')
  await files.remove(one.id)
  for (const id of ['one', 'two']) await disks.remove(id)
})

test('a disk of the operator that becomes full is told as such, whatever it was full for, and nothing is left', async () => {
  const root = await disks.create('three', 1, owner)
  writeFileSync(path.join(root, 'home/text'), randomBytes(9_000_000))
  const little = path.join(folder, 'little')
  mkdirSync(little)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=26m', 'none', little])
  try {
    const cramped = new DiskSnapshots({ stateDir: little, disks, seal })
    const left = (): string[] => readdirSync(path.join(little, 'snapshots'), { recursive: true }).map(String)
    const one = record('snapshot-2')
    const fill = (bytes: number): void => writeFileSync(path.join(little, 'filler'), Buffer.alloc(bytes))
    fill(22_000_000)
    await assert.rejects(cramped.copy('three', one.id, never), isFull)
    assert.deepEqual(left(), ['work'])
    rmSync(path.join(little, 'filler'))
    await cramped.copy('three', one.id, never)
    fill(12_000_000)
    await assert.rejects(cramped.pack(one, never, silent), isFull)
    await cramped.remove(one.id)
    assert.deepEqual(left(), ['work'])
    rmSync(path.join(little, 'filler'))
    await cramped.copy('three', one.id, never)
    await cramped.pack(one, never, silent)
    await cramped.dropCopy(one.id)
    fill(12_000_000)
    await assert.rejects(cramped.unpack(one, 'four', never), isFull)
    assert.deepEqual(left().sort(), [`${one.id}.snapshot`, 'work'])
    assert.deepEqual(await cramped.clean(new Set([one.id])), [])
    assert.deepEqual(left(), [`${one.id}.snapshot`])
    assert.deepEqual(await cramped.clean(new Set()), [`${one.id}.snapshot`])
  } finally {
    execFileSync('umount', ['--lazy', little])
  }
  await disks.remove('three')
})
