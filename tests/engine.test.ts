// The container engine dies and comes back: nothing is concluded, nothing is lost. The real engine is never touched; its socket is.
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { testRuntimes } from './runtimes.ts'
import { startOperator } from './start-operator.ts'

const docker = testRuntimes.find(({ name }) => name === 'docker')

/** A socket that leads to the engine, and can be cut. */
class EngineSocket {
  readonly file = path.join(os.tmpdir(), `atoll-engine-${process.pid}.sock`)
  readonly #open = new Set<net.Socket>()
  #server: net.Server | undefined

  async connect(): Promise<void> {
    const server = net.createServer((client) => {
      const engine = net.connect('/var/run/docker.sock')
      for (const [side, other] of [
        [client, engine],
        [engine, client],
      ] as const) {
        this.#open.add(side)
        side.on('error', () => other.destroy())
        side.on('close', () => {
          this.#open.delete(side)
          other.destroy()
        })
      }
      client.pipe(engine).pipe(client)
    })
    await new Promise<void>((resolve) => server.listen(this.file, resolve))
    this.#server = server
  }

  async cut(): Promise<void> {
    const server = this.#server
    await new Promise<void>((resolve) => {
      server?.close(() => resolve())
      for (const socket of this.#open) socket.destroy()
    })
    rmSync(this.file, { force: true })
  }
}

test('an engine that dies and comes back loses no sandbox and no record', { skip: docker?.skip ?? 'no engine' }, async () => {
  const engine = new EngineSocket()
  await engine.connect()
  const operator = await startOperator({ runtime: 'docker', env: { DOCKER_HOST: `unix://${engine.file}`, SANDBOX_REAPER_INTERVAL: '1' } })
  try {
    const running = await operator.newSandbox({ name: 'running' })
    const stopped = await operator.newSandbox({ name: 'stopped' })
    await operator.call('POST', `/api/sandboxes/${running}/exec`, { body: { command: 'echo kept > file' } })
    await operator.call('POST', `/api/sandboxes/${stopped}/stop`)
    await engine.cut()

    const health = await operator.call('GET', '/health', { key: undefined })
    assert.deepEqual([health.status, health.body.status, health.body.checks.runtime.status], [503, 'degraded', 'error'])
    assert.equal((await operator.call('GET', '/readyz', { key: undefined })).status, 503)
    const refused = await operator.call('POST', '/api/sandboxes', { body: {} })
    assert.deepEqual([refused.status, refused.body.code], [503, 'runtime.unavailable'], refused.text)
    const resume = await operator.call('POST', `/api/sandboxes/${stopped}/resume`)
    assert.deepEqual([resume.status, resume.body.code], [503, 'runtime.unavailable'])
    const remove = await operator.call('DELETE', `/api/sandboxes/${stopped}`)
    assert.deepEqual([remove.status, remove.body.code], [503, 'runtime.unavailable'])
    // Commands need no engine: they go over the guest channel.
    assert.equal((await operator.call('POST', `/api/sandboxes/${running}/exec`, { body: { command: 'cat file' } })).body.stdout, 'kept\n')
    await delay(3000) // Several rounds of reconcile pass; none may conclude anything.
    assert.equal((await operator.call('GET', `/api/sandboxes/${running}`)).body.status, 'running')

    await engine.connect()
    let status = 0
    for (let tries = 0; tries < 100 && status !== 200; tries += 1) {
      await delay(100)
      status = (await operator.call('GET', '/health', { key: undefined })).status
    }
    assert.equal(status, 200)
    assert.equal((await operator.call('POST', `/api/sandboxes/${running}/stop`)).status, 200)
    assert.equal((await operator.call('POST', `/api/sandboxes/${running}/resume`)).status, 200)
    assert.equal((await operator.call('POST', `/api/sandboxes/${running}/exec`, { body: { command: 'cat file' } })).body.stdout, 'kept\n')
    assert.equal((await operator.call('DELETE', `/api/sandboxes/${stopped}`)).status, 200)
  } finally {
    await operator[Symbol.asyncDispose]()
    await engine.cut()
  }
})
