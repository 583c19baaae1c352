// kill -9 of the operator before and after every side effect: nothing is lost, nothing is left, and the records tell the truth.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type FaultPoint, faultPoints } from '../operator/src/sandboxes/faults.ts'
import { leftOver } from './crash-footprint.ts'
import { testRuntimes } from './runtimes.ts'
import { type Answer, startOperator, type TestOperator } from './start-operator.ts'

const small = { memory_mb: 256, disk_gb: 1 }
/** What of a point's name says which operation comes by it. */
const operations = ['create', 'start', 'pause', 'unpause', 'secrets', 'stop', 'resume', 'delete'] as const
type Operation = (typeof operations)[number]
const operationOf = (point: FaultPoint): Operation => {
  const found = operations.find((name) => point.startsWith(`${name}.`))
  assert.ok(found, point)
  return found
}

for (const { name: runtime, skip } of testRuntimes) {
  describe(`an operator that dies while it works on a ${runtime} sandbox`, { skip }, () => {
    let operator: TestOperator
    before(async () => {
      operator = await startOperator({ runtime })
    })
    after(() => operator?.[Symbol.asyncDispose]())

    const call = (method: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<Answer> =>
      operator.call(method, path, { ...(body && { body }), headers })

    async function run(id: string, command: string): Promise<string> {
      const { status, body, text } = await call('POST', `/api/sandboxes/${id}/exec`, { command })
      assert.equal(status, 200, text)
      assert.equal(body.exit_code, 0, body.stderr)
      return body.stdout.trim()
    }

    async function restart(fault?: FaultPoint): Promise<void> {
      operator = await startOperator({ runtime, folder: operator.folder, env: fault ? { ATOLL_FAULT: fault } : {} })
    }

    /** What a client asks for; under its key, where that is how it may ask again. */
    const ask = (operation: Operation, id: string, key: string): Promise<Answer> => {
      const target = `/api/sandboxes/${id}`
      if (operation === 'create' || operation === 'start') return call('POST', '/api/sandboxes', small, { 'idempotency-key': key })
      if (operation === 'delete') return call('DELETE', target)
      if (operation === 'secrets') return call('POST', `${target}/secrets`, { env_json: { GIVEN: 'anew' } })
      return call('POST', `${target}/${operation === 'unpause' ? 'resume' : operation}`)
    }

    /** A sandbox as the operation needs it, with a file in it; empty for one that makes its own. */
    async function prepared(operation: Operation): Promise<string> {
      if (operation === 'create' || operation === 'start') return ''
      const id = await operator.newSandbox(small)
      await run(id, 'echo kept > file; sync')
      if (operation === 'unpause') await call('POST', `/api/sandboxes/${id}/pause`)
      if (operation === 'resume') await call('POST', `/api/sandboxes/${id}/stop`)
      return id
    }

    /** Whatever a record says can be relied on. */
    async function assertTruth(id: string): Promise<void> {
      const { status, body } = await call('GET', `/api/sandboxes/${id}`)
      if (status === 404 || body.status === 'ended') return
      assert.ok(['running', 'paused', 'stopped'].includes(body.status), body.status)
      if (body.status !== 'running') assert.equal((await call('POST', `/api/sandboxes/${id}/resume`)).status, 200)
      assert.equal(await run(id, 'cat file 2>/dev/null || echo fresh'), await expectedFile(id))
    }
    const keeping = new Set<string>()
    const expectedFile = async (id: string): Promise<string> => (keeping.has(id) ? 'kept' : 'fresh')

    /** Lets the operator die on its way, starts the next one, and asks again as a client does that had no answer. */
    async function crash(point: FaultPoint, id: string): Promise<Answer> {
      const operation = operationOf(point)
      const key = randomUUID()
      await operator.stop()
      await restart(point)
      await assert.rejects(ask(operation, id, key), 'the operator lived')
      await operator.kill()
      await restart()
      const again = await ask(operation, id, key)
      assert.ok(again.status < 300 || (operation === 'delete' && again.status === 404), `asked again: ${again.status} ${again.text}`)
      return again
    }

    async function assertNothingLeft(): Promise<void> {
      // A probe of the operator's own may be under way, and what it keeps ready may be being made.
      let left = leftOver(operator.folder)
      for (let tries = 0; left.length > 0 && tries < 100; tries += 1) {
        await delay(50)
        left = leftOver(operator.folder)
      }
      assert.deepEqual(left, [])
    }

    for (const point of faultPoints) {
      test(point, async () => {
        const operation = operationOf(point)
        const id = await prepared(operation)
        if (id !== '') keeping.add(id)
        const again = await crash(point, id)
        const mine = id === '' ? again.body.id : id
        const listed = (await call('GET', '/api/sandboxes?state=creating,running,paused,stopped,deleting')).body.sandboxes
        const left = listed.map((one: { id: string }) => one.id)
        assert.deepEqual(left, operation === 'delete' ? [] : [mine])
        await assertTruth(mine)
        if (operation === 'secrets') assert.equal(await run(mine, 'echo $GIVEN'), 'anew')
        await call('DELETE', `/api/sandboxes/${mine}`)
        await assertNothingLeft()
      })
    }
  })
}
