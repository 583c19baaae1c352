// Paused sandboxes: frozen with all that they have in memory, and back in milliseconds.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

const small = { memory_mb: 256, disk_gb: 1 }
const env = { SANDBOX_REAPER_INTERVAL: '1', SANDBOX_MAX_MAX_LIFETIME: '5000' }
/** Counts without a process that is born and dies. */
const counting = `node=/opt/atoll/node; exec $node -e "let n = 0; setInterval(() => require('fs').appendFileSync('ticks', ++n + '\\n'), 2)"`
const tree =
  'find . -path ./ticks -prune -o -printf "%p %y %m %u %g %s %l\\n" | sort | sha256sum; find . -type f ! -name ticks | sort | xargs sha256sum | sha256sum'

for (const { name, skip } of testRuntimes) {
  describe(`a ${name} sandbox that is paused`, { skip }, () => {
    let operator: TestOperator
    before(async () => {
      operator = await startOperator({ runtime: name, env })
    })
    after(() => operator?.[Symbol.asyncDispose]())

    const post = (id: string, action: string, body?: object) => operator.call('POST', `/api/sandboxes/${id}/${action}`, body && { body })
    const run = async (id: string, command: string): Promise<string> => {
      const { status, body, text } = await post(id, 'exec', { command })
      assert.equal(status, 200, text)
      assert.equal(body.exit_code, 0, body.stderr)
      return body.stdout.trim()
    }
    const statusOf = async (id: string): Promise<string> => (await operator.call('GET', `/api/sandboxes/${id}`)).body.status
    const untilStatus = async (id: string, status: string): Promise<void> => {
      for (let tries = 0; (await statusOf(id)) !== status; tries += 1) {
        assert.ok(tries < 300, `${id} is ${await statusOf(id)}, not ${status}`)
        await delay(50)
      }
    }
    const startCounting = async (id: string): Promise<string> => {
      await post(id, 'processes', { command: counting })
      await run(id, 'until [ -s ticks ]; do sleep 0.01; done')
      return run(id, 'pgrep -f [s]etInterval')
    }

    test('is told as such, refuses work with what to do, and goes on where it was', async () => {
      const id = await operator.newSandbox(small)
      const pid = await startCounting(id)
      const paused = await post(id, 'pause')
      assert.deepEqual([paused.status, paused.body], [200, { success: true, sandbox_id: id, state: 'paused' }])
      assert.equal((await post(id, 'pause')).status, 200)
      const { body } = await operator.call('GET', `/api/sandboxes/${id}`)
      assert.deepEqual([body.status, body.state], ['paused', 'stopped'])
      const refused = await post(id, 'exec', { command: 'true' })
      assert.deepEqual([refused.status, refused.body.code], [409, 'sandbox.not_running'])
      assert.match(refused.body.error, /resume it first/)
      const listed = await operator.call('GET', '/api/sandboxes?state=paused')
      assert.deepEqual(
        listed.body.sandboxes.map((one: { id: string }) => one.id),
        [id],
      )
      assert.equal((await post(id, 'resume')).status, 200)
      assert.equal(await run(id, 'pgrep -f [s]etInterval'), pid)
      await operator.call('DELETE', `/api/sandboxes/${id}`)
    })

    test('is the same after 200 rounds, with its process and every file', async () => {
      const id = await operator.newSandbox(small)
      const pid = await startCounting(id)
      await run(
        id,
        'mkdir -p a/b; head -c 3000000 /dev/urandom > a/b/data; ln -s b/data a/link; mkfifo a/pipe; chmod 2750 a/b; truncate -s 1G a/sparse; rm a/sparse',
      )
      const before = await run(id, tree)
      for (let round = 0; round < 200; round += 1) {
        assert.equal((await post(id, 'pause')).status, 200)
        assert.equal((await post(id, 'resume')).status, 200)
      }
      assert.equal(await run(id, tree), before)
      assert.equal(await run(id, 'pgrep -f [s]etInterval'), pid)
      assert.equal(await run(id, `awk '$1 != NR' ticks | head -n 1`), '')
      await operator.call('DELETE', `/api/sandboxes/${id}`)
    })

    test('stays so over kill -9 of the operator, and takes then what it was given meanwhile', async () => {
      const id = await operator.newSandbox(small)
      const pid = await startCounting(id)
      await post(id, 'pause')
      const set = await operator.call('POST', `/api/sandboxes/${id}/secrets`, { body: { env_json: { LATE: 'given while paused' } } })
      assert.equal(set.status, 200, set.text)
      await operator.kill()
      operator = await startOperator({ runtime: name, folder: operator.folder, env })
      assert.equal(await statusOf(id), 'paused')
      assert.equal((await post(id, 'resume')).status, 200)
      assert.equal(await run(id, 'pgrep -f [s]etInterval'), pid)
      assert.equal(await run(id, 'echo $LATE'), 'given while paused')
      await operator.call('DELETE', `/api/sandboxes/${id}`)
    })

    test('can be stopped, started again with its files, and deleted from its pause', async () => {
      const id = await operator.newSandbox(small)
      await run(id, 'echo kept > file')
      await post(id, 'pause')
      assert.equal((await post(id, 'stop')).status, 200)
      assert.equal(await statusOf(id), 'stopped')
      assert.equal((await post(id, 'pause')).body.code, 'sandbox.busy')
      await post(id, 'resume')
      assert.equal(await run(id, 'cat file'), 'kept')
      await post(id, 'pause')
      assert.equal((await operator.call('DELETE', `/api/sandboxes/${id}`)).status, 200)
      assert.equal((await operator.call('GET', `/api/sandboxes/${id}`)).status, 404)
    })

    test('is made by idleness where that was asked for, then stopped, and woken by use', async () => {
      const id = await operator.newSandbox({ ...small, idle_timeout_seconds: 2, idle_action: 'pause', auto_resume: true })
      await untilStatus(id, 'paused')
      assert.equal(await run(id, 'echo awake'), 'awake')
      assert.equal(await statusOf(id), 'running')
      await untilStatus(id, 'paused')
      await untilStatus(id, 'stopped')
      assert.equal(await run(id, 'echo again'), 'again')
      await operator.call('DELETE', `/api/sandboxes/${id}`)
    })

    test('belongs to its owner, who may also change its times within what the operator allows', async () => {
      const stranger = await operator.newKey(`stranger-${name}`)
      const id = await operator.newSandbox(small)
      for (const [method, path] of [
        ['POST', '/pause'],
        ['PATCH', ''],
      ] as const) {
        const { status } = await operator.call(method, `/api/sandboxes/${id}${path}`, { key: stranger, body: {} })
        assert.equal(status, 404)
      }
      const patch = (body: object) => operator.call('PATCH', `/api/sandboxes/${id}`, { body })
      const changed = await patch({
        name: 'renamed',
        idle_timeout_seconds: 99,
        max_lifetime_seconds: 1000,
        idle_action: 'pause',
        auto_resume: true,
      })
      assert.equal(changed.status, 200, changed.text)
      const {
        name: called,
        idle_timeout_seconds: idle,
        max_lifetime_seconds: lifetime,
        idle_action: action,
        auto_resume: auto,
      } = changed.body
      assert.deepEqual([called, idle, lifetime, action, auto], ['renamed', 99, 1000, 'pause', true])
      assert.equal((await patch({ extend_seconds: 500 })).body.max_lifetime_seconds, 1500)
      assert.equal((await patch({ extend_seconds: 50_000 })).body.max_lifetime_seconds, 5000)
      assert.equal((await patch({ extend_seconds: 1, max_lifetime_seconds: 10 })).status, 400)
      assert.equal((await patch({ memory_mb: 1 })).status, 400)
      await operator.call('DELETE', `/api/sandboxes/${id}`)
    })
  })
}
