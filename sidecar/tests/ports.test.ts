import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import net, { type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type SidecarProcess, startSidecarProcess } from './sidecar-process.ts'

let sidecar: SidecarProcess
before(async () => {
  sidecar = await startSidecarProcess()
})
after(() => sidecar[Symbol.asyncDispose]())

async function listening(host: string, serve: (socket: Socket) => void): Promise<{ port: number; server: net.Server }> {
  const server = net.createServer({ allowHalfOpen: true }, serve)
  server.listen(0, host)
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || !address) throw new Error('The server has no port.')
  return { port: address.port, server }
}

async function connect(port: number | string): Promise<Socket> {
  const headers = { connection: 'Upgrade', upgrade: 'tcp' }
  const request = http.request({ socketPath: sidecar.socketPath, path: `/ports/${port}/connect`, headers })
  request.end()
  const [, socket]: [unknown, Socket] = await new Promise((resolve, reject) => {
    request.once('upgrade', (response, upgraded: Socket) => resolve([response, upgraded]))
    request.once('response', (response) => reject(new Error(`status ${response.statusCode}`)))
    request.once('error', reject)
  })
  return socket
}

test('a port is listed while something listens on it', async () => {
  const { port, server } = await listening('127.0.0.1', (socket) => socket.end())
  assert.ok((await sidecar.json<{ listening: number[] }>('GET', '/ports')).listening.includes(port))
  server.close()
  await once(server, 'close')
  assert.ok(!(await sidecar.json<{ listening: number[] }>('GET', '/ports')).listening.includes(port))
})

for (const host of ['127.0.0.1', '::1']) {
  test(`bytes go both ways to ${host}, and each side ends its own half`, async () => {
    const { port, server } = await listening(host, async (socket) => {
      let count = 0
      for await (const chunk of socket) count += chunk.length
      socket.end(`got ${count}`)
    })
    const socket = await connect(port)
    socket.end(Buffer.alloc(5_000_000))
    assert.equal(Buffer.concat(await socket.toArray()).toString(), 'got 5000000')
    server.close()
  })
}

test('a program that reads slowly slows its caller down instead of filling memory', async () => {
  const sockets: Socket[] = []
  const { port, server } = await listening('127.0.0.1', (socket) => {
    socket.pause()
    sockets.push(socket)
  })
  const socket = await connect(port)
  const limit = 100_000_000
  let taken = 0
  for (let isTaken = true; isTaken && taken < limit; ) {
    taken += 1_000_000
    socket.write(Buffer.alloc(1_000_000))
    isTaken = await Promise.race([once(socket, 'drain').then(() => true), delay(1000, false)])
  }
  assert.ok(taken < limit, `${taken} bytes were taken`)
  socket.destroy()
  for (const other of sockets) other.destroy()
  server.close()
})

test('a port that nothing listens on, and what is no port, are refused', async () => {
  const { port, server } = await listening('127.0.0.1', (socket) => socket.end())
  server.close()
  await once(server, 'close')
  await assert.rejects(connect(port), /status 502/)
  for (const text of ['0', '02280', '65536', '1x']) await assert.rejects(connect(text), /status 400/)
})

test('a connection that breaks on one side is closed on the other', async () => {
  const { port, server } = await listening('127.0.0.1', (socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => socket.resetAndDestroy())
  })
  const socket = await connect(port)
  socket.on('error', () => undefined)
  socket.write('x')
  await once(socket, 'close')
  server.close()
})
