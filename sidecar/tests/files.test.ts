import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import http from 'node:http'
import path from 'node:path'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import type { FileEntry } from '@atoll/protocol'
import { type SidecarProcess, type StreamEvent, startSidecarProcess, until } from './sidecar-process.ts'

let sidecar: SidecarProcess
before(async () => {
  sidecar = await startSidecarProcess()
})
after(() => sidecar[Symbol.asyncDispose]())

const at = (route: string, query: Record<string, string>): string => `${route}?${new URLSearchParams(query)}`
const upload = (file: string, body: string | Buffer | Readable, more: Record<string, string> = {}, on = sidecar) =>
  on.call('PUT', at('/files/content', { path: file, ...more }), { body })
const download = (file: string, headers: Record<string, string> = {}, on = sidecar) =>
  on.call('GET', at('/files/content', { path: file }), { headers })
const codeOf = ({ status, body }: { status: number; body: Buffer }): unknown[] => [status, JSON.parse(body.toString()).code]

test('a file goes up and comes down unchanged, belongs to the user, and its parents are made', async () => {
  const content = randomBytes(3_000_000)
  const answer = await upload('a/b/c.bin', Readable.from([content.subarray(0, 1_000_000), content.subarray(1_000_000)]))
  const entry: FileEntry = JSON.parse(answer.body.toString())
  assert.deepEqual([entry.path, entry.size, entry.type, entry.mode], [`${sidecar.workspace}/a/b/c.bin`, 3_000_000, 'file', '644'])
  const back = await download('a/b/c.bin')
  assert.equal(back.headers['content-type'], 'application/octet-stream')
  assert.ok(back.body.equals(content))
  assert.equal(statSync(entry.path).uid, 1000)
})

test('a replaced file keeps its mode unless another one is asked for', async () => {
  await upload('tool', '#!/bin/sh\necho one', { mode: '755' })
  await upload('tool', '#!/bin/sh\necho two')
  assert.equal((await sidecar.exec('./tool')).stdout, 'two\n')
})

test('an upload through a link writes the file behind it', async () => {
  await sidecar.exec('echo old > behind; ln -s behind link')
  await upload('link', 'new')
  assert.equal((await sidecar.exec('cat behind; test -L link && echo link')).stdout, 'newlink\n')
})

test('a range is honoured, and one outside of the file refused', async () => {
  await upload('digits', '0123456789')
  const part = await download('digits', { range: 'bytes=2-4' })
  assert.deepEqual([part.status, part.body.toString(), part.headers['content-range']], [206, '234', 'bytes 2-4/10'])
  assert.deepEqual(codeOf(await download('digits', { range: 'bytes=10-' })), [416, 'file.range'])
})

test('empty files, and names with spaces, signs and other scripts work', async () => {
  const name = 'dir/ä 文 #?&\'" %20'
  assert.equal((await upload(name, '')).status, 200)
  assert.equal((await download(name)).body.length, 0)
  assert.equal((await sidecar.json<FileEntry>('GET', at('/files/stat', { path: name }))).name, path.basename(name))
})

test('paths out of the places are refused: dots, absolute ones, links', async () => {
  await sidecar.exec('ln -sfn /etc etc; ln -sf /etc/passwd passwd')
  for (const file of ['/etc/passwd', '../../../../../../etc/passwd', 'etc/passwd', 'passwd', '/home', '/tmp/../etc/passwd', '/tmpx']) {
    assert.deepEqual(codeOf(await download(file)), [400, 'file.outside'], file)
  }
  assert.deepEqual(codeOf(await upload('etc/new', 'x')), [400, 'file.outside'])
  assert.deepEqual(codeOf(await sidecar.call('GET', at('/files', { path: 'etc' }))), [400, 'file.outside'])
  const entry = await sidecar.json<FileEntry>('GET', at('/files/stat', { path: 'passwd' }))
  assert.deepEqual([entry.type, entry.target], ['symlink', '/etc/passwd'])
})

test('a link that changes all the time never leads an upload or download out of reach of the user', async () => {
  const secret = path.join(sidecar.folder, 'only-root')
  writeFileSync(secret, 'of root', { mode: 0o600 })
  const swapping = await sidecar.json<{ id: string }>('POST', '/processes', {
    command: `mkdir -p real; echo mine > real/f; while :; do ln -sfn real swap; ln -sfn ${sidecar.folder} swap; done`,
  })
  for (let count = 0; count < 40; count++) {
    const { body } = await download('swap/only-root')
    assert.doesNotMatch(body.toString(), /of root/)
    await upload('swap/planted', 'x')
  }
  await sidecar.call('DELETE', `/processes/${swapping.id}`)
  assert.equal(existsSync(path.join(sidecar.folder, 'planted')), false)
})

test('bad paths have their own failures', async () => {
  assert.deepEqual(codeOf(await download('a\0b')), [400, 'file.invalid_path'])
  assert.deepEqual(codeOf(await download('')), [400, 'file.invalid_path'])
  assert.deepEqual(codeOf(await download('x'.repeat(5000))), [400, 'file.invalid_path'])
  assert.deepEqual(codeOf(await download('x'.repeat(300))), [400, 'file.invalid_path'])
  assert.deepEqual(codeOf(await download('not-there')), [404, 'file.not_found'])
  assert.deepEqual(codeOf(await download('.')), [409, 'file.is_a_directory'])
  assert.deepEqual(codeOf(await upload('digits/below', 'x')), [409, 'file.not_a_directory'])
  await sidecar.exec('mkfifo fifo; ln -s loop loop')
  assert.deepEqual(codeOf(await download('fifo')), [400, 'file.invalid_path'])
  assert.deepEqual(codeOf(await download('loop')), [400, 'file.invalid_path'])
})

test('what the user may not read or write is refused', async () => {
  mkdirSync(path.join(sidecar.home, 'root-only'), { mode: 0o700 })
  assert.deepEqual(codeOf(await download(path.join(sidecar.home, 'root-only/x'))), [403, 'file.permission'])
  assert.deepEqual(codeOf(await upload(path.join(sidecar.home, 'root-only/x'), 'x')), [403, 'file.permission'])
})

test('more than ten thousand entries are listed by name', async () => {
  await sidecar.exec('mkdir many; cd many; seq -w 12000 | xargs touch')
  const { entries } = await sidecar.json<{ entries: FileEntry[] }>('GET', at('/files', { path: 'many' }))
  assert.equal(entries.length, 12_000)
  assert.deepEqual([entries[0]?.name, entries.at(-1)?.name], ['00001', '12000'])
})

test('an upload that breaks off leaves nothing behind', async () => {
  await upload('broken/kept', 'before')
  const directory = path.join(sidecar.workspace, 'broken')
  const request = http.request({
    socketPath: sidecar.socketPath,
    method: 'PUT',
    path: at('/files/content', { path: 'broken/kept' }),
    headers: { 'content-length': 1_000_000 },
  })
  request.on('error', () => undefined)
  request.write('x'.repeat(500_000))
  await until('the upload is under way', () => readdirSync(directory).length === 2)
  request.destroy()
  await until('its draft is gone', () => readdirSync(directory).length === 1)
  assert.equal(await readFile(path.join(directory, 'kept'), 'utf8'), 'before')
})

test('moving replaces only when asked, and keeps what it moves', async () => {
  const move = (from: string, to: string, overwrite = false) => sidecar.call('POST', '/files/move', { body: { from, to, overwrite } })
  await upload('m/one', '1')
  await upload('m/two', '2')
  assert.deepEqual(codeOf(await move('m/one', 'm/two')), [409, 'file.exists'])
  assert.equal((await move('m/one', 'm/two', true)).status, 200)
  assert.equal((await download('m/two')).body.toString(), '1')
  assert.equal((await move('m/two', 'm/three')).status, 200)
  assert.deepEqual(codeOf(await move('m/gone', 'm/four')), [404, 'file.not_found'])
  await sidecar.json('POST', '/files/mkdir', { path: 'm/dir/deep' })
  assert.deepEqual(codeOf(await move('m/dir', 'm/three')), [409, 'file.exists'])
  assert.equal((await move('m/dir', 'm/moved')).status, 200)
  assert.deepEqual(readdirSync(path.join(sidecar.workspace, 'm')).sort(), ['moved', 'three'])
})

test('removing is safe to repeat, and takes a directory only when asked', async () => {
  const remove = (file: string, recursive = 'false') => sidecar.call('DELETE', at('/files', { path: file, recursive }))
  await upload('r/f', 'x')
  assert.deepEqual(codeOf(await remove('r')), [409, 'file.is_a_directory'])
  assert.equal((await remove('r/f')).body.toString(), '{"deleted":true}')
  assert.equal((await remove('r/f')).body.toString(), '{"deleted":false}')
  assert.equal((await remove('r', 'true')).body.toString(), '{"deleted":true}')
  assert.deepEqual(codeOf(await remove('.', 'true')), [403, 'file.permission'])
  await sidecar.exec('ln -s /etc/passwd away')
  assert.equal((await remove('away')).body.toString(), '{"deleted":true}')
  assert.ok(existsSync('/etc/passwd'))
})

test('a full disk is a clear failure, and nothing half-written stays', async () => {
  await using full = await startSidecarProcess()
  const mounted = path.join(full.workspace, 'small')
  await mkdir(mounted)
  const { spawnSync } = await import('node:child_process')
  assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m,uid=1000,gid=1000', 'atoll-test', mounted]).status, 0)
  try {
    assert.deepEqual(codeOf(await upload('small/big', Buffer.alloc(8_000_000), {}, full)), [507, 'file.disk_full'])
    assert.deepEqual(readdirSync(mounted), [])
    assert.equal((await upload('small/fits', 'x', {}, full)).status, 200)
    // Another file system than the workspace's: moving copies.
    await full.json('POST', '/files/move', { from: 'small/fits', to: 'fits' })
    assert.equal((await download('fits', {}, full)).body.toString(), 'x')
    assert.deepEqual(readdirSync(mounted), [])
  } finally {
    spawnSync('umount', ['-l', mounted])
  }
})

test('the file worker is replaced when the user kills it', async () => {
  await upload('before', 'x')
  await sidecar.exec('pkill -KILL -u 1000 -f -- --files')
  await until('files are served again', async () => (await download('before').catch(() => undefined))?.status === 200)
})

test('a watch tells what is made, changed and removed, in new directories too', async () => {
  await sidecar.exec('mkdir -p w; echo 1 > w/old')
  const seen = new Set<string>()
  const tell = ({ data }: StreamEvent): string => `${data.type} ${String(data.path ?? '').replace(`${sidecar.workspace}/`, '')}`
  const expected = ['created w/new', 'created w/new/deep', 'created w/new/deep/f', 'changed w/old', 'removed w/new/deep/f', 'removed w/new']
  for await (const event of await sidecar.events(at('/files/watch', { path: 'w', recursive: 'true' }))) {
    seen.add(tell(event))
    if (event.event === 'ready') await sidecar.exec('mkdir -p w/new/deep; echo 1 > w/new/deep/f; echo 2 >> w/old')
    if (tell(event) === 'created w/new/deep/f') await sidecar.exec('rm -r w/new')
    if (expected.every((text) => seen.has(text))) break
  }
})

test('a watcher that falls behind is told that it has to look again', async () => {
  await sidecar.exec('mkdir -p busy')
  const stream = await sidecar.open('GET', at('/files/watch', { path: 'busy' }))
  let text = ''
  // Nothing is read meanwhile, so the events fill every buffer between here and there.
  await sidecar.exec('cd busy; seq 15000 | xargs touch; sleep 1; ls | xargs rm', { timeout_ms: 120_000 })
  for await (const chunk of stream) {
    text += chunk
    if (text.includes('event: overflow')) break
  }
  assert.match(text, /event: overflow/)
})

test('a single file is watched by its path', async () => {
  await writeFile(path.join(sidecar.workspace, 'alone'), '1')
  for await (const { event, data } of await sidecar.events(at('/files/watch', { path: 'alone' }))) {
    if (event === 'ready') await sidecar.exec('touch other; echo 2 >> ../workspace/alone; rm -f alone; echo 3 > alone')
    else {
      assert.equal(path.basename(String(data.path)), 'alone')
      break
    }
  }
  assert.equal(readFileSync(path.join(sidecar.workspace, 'alone'), 'utf8'), '3\n')
})
