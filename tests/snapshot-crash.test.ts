// kill -9 of the operator while it copies disks: the source goes on, nothing is half made, and nothing is left.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { copyFaultPoints, type FaultPoint } from '../operator/src/sandboxes/faults.ts'
import { testRuntimes } from './runtimes.ts'
import { type Answer, startOperator, type TestOperator } from './start-operator.ts'

const small = { memory_mb: 128, disk_gb: 1 }
const counting = `node=/opt/atoll/node; exec $node -e "let n = 0; setInterval(() => require('fs').appendFileSync('ticks', ++n + '\\n'), 2)"`

for (const { name: runtime, skip } of testRuntimes) {
  describe(`an operator that dies while it copies the disk of a ${runtime} sandbox`, { skip }, () => {
    let operator: TestOperator
    let id: string
    let pid: string
    before(async () => {
      operator = await startOperator({ runtime })
      id = await operator.newSandbox(small)
      await call('POST', `/api/sandboxes/${id}/processes`, { command: counting })
      await run('until [ -s ticks ]; do sleep 0.01; done')
      pid = await run('pgrep -f [s]etInterval')
    })
    after(() => operator?.[Symbol.asyncDispose]())

    const call = (method: string, target: string, body?: object): Promise<Answer> => operator.call(method, target, body ? { body } : {})
    async function run(command: string): Promise<string> {
      const { body, text } = await call('POST', `/api/sandboxes/${id}/exec`, { command })
      assert.equal(body.exit_code, 0, text)
      return body.stdout.trim()
    }
    const restart = async (fault?: FaultPoint): Promise<void> => {
      operator = await startOperator({ runtime, folder: operator.folder, env: fault ? { ATOLL_FAULT: fault } : {} })
    }
    const entries = (name: string): string[] => {
      const folder = path.join(operator.folder, 'state', name)
      return existsSync(folder) ? readdirSync(folder) : []
    }
    const snapshots = async () => (await call('GET', '/api/snapshots')).body.snapshots

    async function assertGoesOn(): Promise<void> {
      assert.equal((await call('GET', `/api/sandboxes/${id}`)).body.status, 'running')
      assert.equal(await run('pgrep -f [s]etInterval'), pid)
      const ticks = Number(await run('wc -l < ticks'))
      await run(`until [ $(wc -l < ticks) -gt ${ticks} ]; do sleep 0.01; done; sync`)
      assert.equal(await run(`awk '$1 != NR' ticks | head -n 1`), '')
    }

    /** But for the source and what is ready. */
    async function assertNothingLeft(): Promise<void> {
      const ready = (await snapshots()).filter(({ state }: { state: string }) => state === 'ready')
      assert.deepEqual(
        entries('snapshots')
          .filter((name) => name !== 'work')
          .sort(),
        ready.map((one: { id: string }) => `${one.id}.snapshot`).sort(),
      )
      assert.deepEqual(entries('snapshots/work'), [])
      const live = (await call('GET', '/api/sandboxes')).body.sandboxes.map((one: { id: string }) => one.id)
      assert.deepEqual(live, [id])
      // The operator's own probes come and go.
      const others = entries('sandboxes').filter((name) => name !== id && !name.startsWith('probe-'))
      assert.deepEqual(others, [])
    }

    /** Lets the operator die on its way, and starts the next one. */
    async function crash(point: FaultPoint, target: string, body: object, headers = {}): Promise<void> {
      await operator.kill()
      await restart(point)
      await assert.rejects(operator.call('POST', target, { body, headers }), 'the operator lived')
      await operator.kill()
      await restart()
    }

    for (const point of copyFaultPoints.filter((name) => !name.startsWith('fork.'))) {
      test(point, async () => {
        const target = `/api/sandboxes/${id}/snapshots`
        const headers = { 'idempotency-key': point }
        await crash(point, target, {}, headers)
        await assertGoesOn()
        await assertNothingLeft()
        const told = (await snapshots()).map((one: { state: string; error?: object }) => [
          one.state,
          one.error && { ...one.error, message: '' },
        ])
        const failed = ['failed', { code: 'snapshot.interrupted', message: '' }]
        assert.deepEqual(told, [point === 'snapshot.done' ? ['ready', undefined] : failed])
        const again = await operator.call('POST', target, { body: {}, headers })
        assert.equal(again.status, 201, again.text)
        assert.equal((await snapshots()).length, point === 'snapshot.done' ? 1 : 2)
        for (const one of await snapshots()) assert.equal((await call('DELETE', `/api/snapshots/${one.id}`)).status, 200)
        await assertNothingLeft()
      })
    }

    for (const point of copyFaultPoints.filter((name) => name.startsWith('fork.'))) {
      test(point, async () => {
        const target = `/api/sandboxes/${id}/fork`
        await crash(point, target, { count: 2 })
        await assertGoesOn()
        await assertNothingLeft()
        const again = await call('POST', target, { count: 2 })
        assert.equal(again.status, 201, again.text)
        for (const one of again.body.sandboxes) await call('DELETE', `/api/sandboxes/${one.id}`)
        await assertNothingLeft()
      })
    }

    test('in the middle of the copy the disk takes writes again at once, before there is another operator', async () => {
      await run('head -c 500000000 /dev/urandom > big; sync')
      const asked = call('POST', `/api/sandboxes/${id}/snapshots`).catch(() => undefined)
      const copy = (): boolean =>
        entries('snapshots/work').some((name) => existsSync(path.join(operator.folder, 'state/snapshots/work', name, 'disk.img')))
      for (let tries = 0; !copy(); tries += 1) {
        assert.ok(tries < 2000, 'no copy began')
        await delay(5)
      }
      await operator.kill()
      await asked
      const root = path.join(operator.folder, 'state/sandboxes', id, 'disk/root')
      execFileSync('sh', ['-c', 'echo written > "$0/written" && sync -f "$0/written" && rm "$0/written"', root], { timeout: 20_000 })
      // As a removal leaves it that is cut off between the record and the file.
      writeFileSync(path.join(operator.folder, 'state/snapshots/snapshot-of-nobody.snapshot'), 'left')
      await restart()
      await run('rm big')
      await assertGoesOn()
      await assertNothingLeft()
      assert.deepEqual(
        (await snapshots()).map(({ state }: { state: string }) => state),
        ['failed'],
      )
    })
  })
}
