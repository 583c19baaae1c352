import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { openHttpGuest } from './http-guest.ts'

const folder = (): { path: string } & Disposable => {
  const made = mkdtempSync(path.join(os.tmpdir(), 'atoll-guest-'))
  return { path: made, [Symbol.dispose]: () => rmSync(made, { recursive: true }) }
}

test('a sandbox whose socket is gone does not answer, which is no failure of the operator', async () => {
  using place = folder()
  const guest = openHttpGuest(path.join(place.path, 'gone.sock'))
  await assert.rejects(guest.call({ method: 'POST', path: '/exec', body: {} }), { code: 'sandbox.unreachable' })
  await assert.rejects(guest.upgrade('/ports/1/connect', {}), { code: 'sandbox.unreachable' })
  guest.close()
})

test('nor is one that ends in the middle of its answer', async () => {
  using place = folder()
  const socketPath = path.join(place.path, 'cut.sock')
  const server = net.createServer((socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"exit_'))
  })
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  const guest = openHttpGuest(socketPath)
  await assert.rejects(guest.call({ method: 'POST', path: '/exec', body: {} }), { code: 'sandbox.unreachable' })
  guest.close()
  await new Promise((resolve) => server.close(resolve))
})
