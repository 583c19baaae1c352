// What the engine is asked for, and what of the engine is left alone.
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { openHttpGuest } from '../../guest-channel/http-guest.ts'
import { planOf } from '../../sandboxes/contract/subject.ts'
import type { Runtime } from '../../sandboxes/runtime.ts'
import { containerName, mayRaiseLimits } from './container.ts'
import { baseImage, engine, openMachine, type TestMachine } from './testing/machine.ts'
import { contextOf, sh } from './testing/sandbox.ts'

const canary = 'CANARY-of-the-docker-wall'

describe('a docker sandbox, seen by its engine', () => {
  let machine: TestMachine
  let runtime: Runtime

  before(async () => {
    process.env['ATOLL_WALL_CANARY'] = canary
    machine = await openMachine()
    runtime = machine.open()
  })
  after(async () => {
    await runtime.close()
    await machine.close()
  })

  const inspect = (id: string) => engine.getContainer(containerName(id)).inspect()

  test('has no privilege, no network, no writable system and every limit', async () => {
    const plan = planOf({ cpuCores: 0.5, memoryMb: 300, pids: 99 })
    await runtime.start(plan, contextOf())
    const { HostConfig: host, Config: config } = await inspect(plan.id)
    assert.deepEqual(host.CapDrop, ['ALL'])
    assert.deepEqual(host.CapAdd, ['SETUID', 'SETGID', 'KILL', 'CHOWN'])
    assert.deepEqual(host.SecurityOpt, ['no-new-privileges'])
    assert.equal(host.Privileged, false)
    assert.equal(host.ReadonlyRootfs, true)
    assert.deepEqual([host.NetworkMode, host.IpcMode, host.PidMode, host.UsernsMode], ['none', 'private', '', ''])
    assert.equal(Reflect.get(host, 'CgroupnsMode'), 'private')
    assert.deepEqual([host.Memory, host.MemorySwap], [300 * 1_048_576, 300 * 1_048_576])
    assert.deepEqual([host.NanoCpus, host.PidsLimit, host.OomScoreAdj], [5e8, 99, mayRaiseLimits() ? -500 : 0])
    assert.equal(host.RestartPolicy?.Name, 'no')
    assert.deepEqual(host.LogConfig, { Type: 'json-file', Config: { 'max-size': '1m', 'max-file': '1' } })
    assert.ok(host.MaskedPaths?.includes('/proc/kcore'))
    assert.deepEqual([config.User, config.Tty, config.OpenStdin], ['0:0', false, false])
    await runtime.remove(plan.id)
  })

  test('carries the labels of its operator', async () => {
    const plan = planOf()
    await runtime.start(plan, contextOf())
    const { Labels } = (await inspect(plan.id)).Config
    assert.equal(Labels['atoll.operator'], machine.options.operatorId)
    assert.equal(Labels['atoll.sandbox'], plan.id)
    assert.equal(Labels['atoll.image'], baseImage)
    await runtime.remove(plan.id)
  })

  test('shows neither the environment of the operator nor a secret of the user', async () => {
    const plan = planOf()
    const running = await runtime.start(plan, contextOf())
    const guest = openHttpGuest(running.socketPath)
    await guest.ready(30_000, AbortSignal.timeout(30_000))
    await guest.configure({ env: { A: `${canary}-env` }, secrets: { B: `${canary}-secret` } })
    guest.close()
    assert.equal(await sh(running, 'echo $A $B'), `${canary}-env ${canary}-secret`)
    const shown = JSON.stringify(await inspect(plan.id))
    assert.ok(!shown.includes(canary))
    assert.deepEqual((await inspect(plan.id)).Config.Env, ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'])
    await runtime.remove(plan.id)
  })

  test('a container of somebody else is neither replaced, listed nor removed, whatever its name', async () => {
    const plan = planOf()
    const theirs = await engine.createContainer({ name: containerName(plan.id), Image: baseImage, Cmd: ['sleep', '1'] })
    try {
      await assert.rejects(runtime.start(plan, contextOf()), { code: 'sandbox.start_failed', message: /stands in the way/ })
      await runtime.stop(plan.id)
      await runtime.remove(plan.id)
      assert.deepEqual(await runtime.list(), [])
      assert.equal((await theirs.inspect()).Config.Cmd[0], 'sleep')
    } finally {
      await theirs.remove({ force: true })
    }
    assert.deepEqual(await machine.leftovers(plan.id), [])
  })

  test('another operator on the same engine sees nothing of it', async () => {
    const plan = planOf()
    await runtime.start(plan, contextOf())
    const other = machine.open({ operatorId: `${machine.options.operatorId}-other`, stateDir: join(machine.options.stateDir, 'other') })
    assert.deepEqual(await other.list(), [])
    await other.remove(plan.id)
    assert.equal((await inspect(plan.id)).State.Running, true)
    await other.close()
    await runtime.remove(plan.id)
  })

  test('what a half-done start left under the same id is replaced', async () => {
    const plan = planOf()
    const labels = { 'atoll.operator': machine.options.operatorId, 'atoll.sandbox': plan.id }
    const half = await engine.createContainer({ name: containerName(plan.id), Image: baseImage, Cmd: ['sleep', '1'], Labels: labels })
    const running = await runtime.start(plan, contextOf())
    assert.notEqual((await inspect(plan.id)).Id, half.id)
    assert.equal(await sh(running, 'echo works'), 'works')
    await runtime.remove(plan.id)
  })

  test('a sandbox whose container was taken away is stopped, and comes back with its files', async () => {
    const plan = planOf()
    const running = await runtime.start(plan, contextOf())
    await sh(running, 'echo precious > file')
    await engine.getContainer(containerName(plan.id)).remove({ force: true, v: true })
    assert.deepEqual(
      (await runtime.list()).map(({ id, state }) => [id, state]),
      [[plan.id, 'stopped']],
    )
    assert.equal(await sh(await runtime.resume(plan, contextOf()), 'cat file'), 'precious')
    await runtime.remove(plan.id)
    assert.deepEqual(await machine.leftovers(plan.id), [])
  })

  test('a container that somebody has paused is seen so, and resuming lets it go on', async () => {
    const plan = planOf()
    await runtime.start(plan, contextOf())
    await engine.getContainer(containerName(plan.id)).pause()
    assert.equal((await runtime.list())[0]?.state, 'paused')
    assert.equal(await sh(await runtime.resume(plan, contextOf()), 'echo goes on'), 'goes on')
    await engine.getContainer(containerName(plan.id)).pause()
    await runtime.stop(plan.id)
    assert.equal((await runtime.list())[0]?.state, 'stopped')
    await runtime.remove(plan.id)
  })

  test('a sidecar that ends at once is told with its last words, and nothing is left', async () => {
    const programDir = join(machine.options.stateDir, 'broken-program')
    mkdirSync(programDir)
    writeFileSync(join(programDir, 'node'), '#!/bin/sh\necho "no such luck" >&2\nexit 3\n')
    chmodSync(join(programDir, 'node'), 0o755)
    const plan = planOf()
    await assert.rejects(machine.open({ programDir }).start(plan, contextOf()), {
      code: 'sandbox.start_failed',
      message: 'The sandbox ended at once with status 3: no such luck',
    })
    assert.deepEqual(await machine.leftovers(plan.id), [])
  })
})
