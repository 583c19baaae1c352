// An engine that refuses, is silent, dies in the middle and comes back. The machine's own engine is never touched.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { planOf } from '../../sandboxes/contract/subject.ts'
import type { Runtime } from '../../sandboxes/runtime.ts'
import { openMachine, type TestMachine } from './testing/machine.ts'
import { EngineProxy } from './testing/proxy.ts'
import { contextOf, sh } from './testing/sandbox.ts'

describe('a docker runtime whose engine fails', () => {
  let machine: TestMachine
  let proxy: EngineProxy
  let runtime: Runtime

  before(async () => {
    machine = await openMachine()
    proxy = new EngineProxy(join(machine.options.stateDir, 'engine.sock'))
    runtime = machine.open({ engineSocket: `unix://${proxy.path}` })
    await proxy.open()
  })
  after(async () => {
    proxy.cut()
    await machine.close()
  })

  const assertUnavailable = async (broken: Runtime, id: string): Promise<void> => {
    const expected = { code: 'runtime.unavailable' }
    const plan = planOf({ id })
    await assert.rejects(broken.start(planOf(), contextOf()), expected)
    await assert.rejects(broken.resume(plan, contextOf()), expected)
    await assert.rejects(broken.stop(id), expected)
    await assert.rejects(broken.remove(id), expected)
    await assert.rejects(broken.list(), expected)
    assert.equal(typeof (await broken.ping(AbortSignal.timeout(5000))), 'string')
    const probe = await broken.probe(AbortSignal.timeout(10_000))
    assert.equal(probe.available, false)
    assert.ok(probe.reason)
  }

  test('concludes nothing while it is gone, and has everything when it is back', async () => {
    const plan = planOf()
    const running = await runtime.start(plan, contextOf())
    await sh(running, 'echo kept > file')
    proxy.cut()
    await assertUnavailable(runtime, plan.id)
    assert.equal(await sh(running, 'cat file'), 'kept')
    await proxy.open()
    assert.equal(await runtime.ping(AbortSignal.timeout(5000)), undefined)
    assert.deepEqual(await runtime.list(), [{ id: plan.id, state: 'running', socketPath: running.socketPath }])
    assert.equal(await sh(await runtime.resume(plan, contextOf()), 'cat file'), 'kept')
    await runtime.remove(plan.id)
    assert.deepEqual(await machine.leftovers(plan.id), [])
  })

  for (const moment of ['/containers/json', '/images/', '/containers/create', '/start', '/wait']) {
    test(`an engine that dies at ${moment} of a start leaves nothing that a later removal does not take`, async () => {
      const plan = planOf()
      proxy.lets = (text) => !text.includes(moment)
      const outcome = await runtime.start(plan, contextOf()).then(
        () => 'started',
        (error: unknown) => error,
      )
      proxy.lets = () => true
      if (outcome !== 'started') assert.equal(Reflect.get(Object(outcome), 'code'), 'runtime.unavailable')
      proxy.cut()
      await proxy.open()
      await runtime.remove(plan.id)
      assert.deepEqual(await machine.leftovers(plan.id), [])
    })
  }

  test('a socket that is not there or refuses is the same as a dead engine', async () => {
    await assertUnavailable(machine.open({ engineSocket: 'unix:///nowhere/engine.sock' }), planOf().id)
  })

  test('an engine that never answers is given up at the deadline', async () => {
    const path = join(machine.options.stateDir, 'silent.sock')
    const server = net.createServer()
    const sockets = new Set<net.Socket>()
    server.on('connection', (socket) => sockets.add(socket))
    server.listen(path)
    await once(server, 'listening')
    try {
      await assertUnavailable(machine.open({ engineSocket: `unix://${path}`, engineDeadlineMs: 100 }), planOf().id)
    } finally {
      for (const socket of sockets) socket.destroy()
      server.close()
    }
  })

  test('an engine elsewhere is refused with the reason', async () => {
    const remote = machine.open({ engineSocket: 'tcp://192.0.2.1:2375' })
    await assertUnavailable(remote, planOf().id)
    assert.match((await remote.probe(AbortSignal.timeout(5000))).reason ?? '', /not local/)
  })
})
