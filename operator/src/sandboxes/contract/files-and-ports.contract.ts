// The cases about files, terminals and ports.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import type { FileEntry, Terminal } from '@atoll/protocol'
import { sidecarPaths } from '@atoll/protocol/sidecar'
import type { Box, Subject } from './subject.ts'
import { until } from './subject.ts'

const collect = async (body: Readable): Promise<Buffer> => Buffer.concat(await body.toArray())

async function upload(box: Box, path: string, content: Buffer): Promise<void> {
  const answer = await box.guest.send({ method: 'PUT', path: `/files/content?path=${path}&mode=640`, body: Readable.from([content]) })
  assert.equal(answer.status, 200, (await collect(answer.body)).toString())
  answer.body.resume()
}

/** A server inside that greets everyone with a word. */
async function serve(box: Box, port: number, word: string): Promise<void> {
  const script = `require('net').createServer((s) => { s.on('data', (d) => s.end('${word}:' + d)) }).listen(${port}, '127.0.0.1')`
  await box.start({ argv: [`${sidecarPaths.program}/node`, '-e', script] })
  const listening = async () => (await box.guest.call<{ listening: number[] }>({ method: 'GET', path: '/ports' })).listening.includes(port)
  await until(`port ${port} is listening`, listening)
}

async function ask(box: Box, port: number, text: string): Promise<string> {
  const socket = await box.guest.connect(port, AbortSignal.timeout(10_000))
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  socket.write(text)
  await once(socket, 'end')
  socket.destroy()
  return Buffer.concat(chunks).toString()
}

export function filesAndPortsCases(get: () => Subject): void {
  test('a file that is uploaded belongs to the user and reads back byte for byte', async () => {
    const box = await get().shared()
    const content = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251))
    await upload(box, 'up/loaded.bin', content)
    assert.equal(await box.sh('stat -c %u:%g:%a up/loaded.bin'), '1000:1000:640')
    const answer = await box.guest.send({ method: 'GET', path: '/files/content?path=up/loaded.bin' })
    assert.ok((await collect(answer.body)).equals(content))
  })

  test('files made by commands are listed with their kind, size and mode', async () => {
    const box = await get().shared()
    await box.sh('mkdir -p listed/dir; printf 12345 > listed/file; chmod 600 listed/file; ln -s file listed/link')
    const { entries } = await box.guest.call<{ entries: FileEntry[] }>({ method: 'GET', path: '/files?path=listed' })
    const brief = entries.map(({ name, type, size }) => (type === 'file' ? `${name}:${type}:${size}` : `${name}:${type}`)).sort()
    assert.deepEqual(brief, ['dir:directory', 'file:file:5', 'link:symlink'])
  })

  test('files outside the home and the temporary folder are refused', async () => {
    const box = await get().shared()
    await box.sh('ln -sfn /etc escape')
    for (const path of ['/etc/passwd', '../../../etc/passwd', 'escape/passwd']) {
      await assert.rejects(box.guest.call({ method: 'GET', path: `/files/stat?path=${path}` }), { code: 'file.outside' })
    }
  })

  test('a terminal is a real one, of the size that was asked for', async () => {
    const box = await get().shared()
    const body = { cols: 101, rows: 31, cwd: '', env_json: {} }
    const { session_id: id } = await box.guest.call<Terminal>({ method: 'POST', path: '/terminals', body })
    const stream = await box.guest.send({ method: 'GET', path: `/terminals/${id}/stream`, signal: AbortSignal.timeout(20_000) })
    await box.guest.call({ method: 'POST', path: `/terminals/${id}/input`, body: { data: 'tty; stty size; id -u; echo e"n"d\r' } })
    let text = ''
    for await (const chunk of stream.body) {
      text += chunk
      if (/end\\r\\n/.test(text)) break
    }
    assert.match(text, /\/dev\/pts\/\d+/)
    assert.match(text, /31 101/)
    assert.match(text, /1000/)
    await box.guest.call({ method: 'DELETE', path: `/terminals/${id}` })
  })

  test('a port that listens inside is reached, both ways', async () => {
    const box = await get().shared()
    await serve(box, 8081, 'first')
    assert.equal(await ask(box, 8081, 'hello'), 'first:hello')
  })

  test('a port that nobody listens on is closed', async () => {
    const box = await get().shared()
    await assert.rejects(box.guest.connect(8099, AbortSignal.timeout(10_000)), { code: 'port.closed' })
  })

  test('two sandboxes have files, processes and ports of their own', async () => {
    const subject = get()
    const one = await subject.shared()
    const two = await subject.start()
    await one.sh('echo one > /tmp/mine; echo one > mine')
    await two.refuses('cat /tmp/mine mine')
    await serve(one, 8082, 'one')
    await assert.rejects(two.guest.connect(8082, AbortSignal.timeout(10_000)), { code: 'port.closed' })
    await serve(two, 8082, 'two')
    assert.equal(await ask(one, 8082, '?'), 'one:?')
    assert.equal(await ask(two, 8082, '?'), 'two:?')
    await one.start({ argv: ['sleep', '7777'] })
    assert.equal(await two.sh('ps -eo args | grep -c "[s]leep 7777" || true'), '0')
    await subject.remove(two)
  })
}
