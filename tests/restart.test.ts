// The operator is killed, restarted and stopped; sandboxes and clients go on.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, test } from 'node:test'
import { readCgroupLayout } from '../operator/src/host/cgroup-layout.ts'
import { readEvents } from './events.ts'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

const count = 400
const counting = `i=0; while [ $i -lt ${count} ]; do i=$((i+1)); echo "line $i"; sleep 0.01; done; exit 7`

/** Reads some lines, kills the operator, and reads on until the connection breaks. */
async function readUntilKilled(operator: TestOperator, path: string): Promise<{ text: string; cursor: number }> {
  let text = ''
  let cursor = 0
  const events = readEvents(await operator.fetch('GET', path))
  while (text.split('\n').length <= 50) {
    const { value } = await events.next()
    text += value?.data.text
    cursor = Number(value?.id)
  }
  await operator.kill()
  try {
    for await (const { id, data } of events) {
      text += data.text
      cursor = Number(id)
    }
  } catch (error) {
    assert.ok(error instanceof TypeError, `the connection breaks, as it must: ${error}`)
  }
  return { text, cursor }
}

async function readToTheEnd(operator: TestOperator, path: string, cursor: number): Promise<{ text: string; exit: unknown }> {
  let text = ''
  let exit: unknown
  for await (const { data } of readEvents(await operator.fetch('GET', path, { headers: { 'last-event-id': String(cursor) } }))) {
    if (data.type === 'exit') exit = data.exit
    else text += data.text
  }
  return { text, exit }
}

for (const { name: runtime, skip } of testRuntimes) {
  describe(`on ${runtime}`, { skip }, () => {
    test('a command survives kill -9 of the operator, and its reader loses and repeats no byte', async () => {
      const first = await startOperator({ runtime })
      let second: TestOperator | undefined
      try {
        const sandbox = await first.newSandbox()
        const started = await first.call('POST', `/api/sandboxes/${sandbox}/processes`, { body: { command: counting } })
        const path = `/api/sandboxes/${sandbox}/processes/${started.body.id}/events`
        const before = await readUntilKilled(first, path)
        assert.ok(before.text.split('\n').length < count, 'the operator died midway')
        second = await startOperator({ runtime, folder: first.folder })
        const after = await readToTheEnd(second, path, before.cursor)
        assert.equal(before.text + after.text, Array.from({ length: count }, (_, index) => `line ${index + 1}\n`).join(''))
        assert.deepEqual(after.exit, { type: 'exited', code: 7 })
      } finally {
        await (second ?? first)[Symbol.asyncDispose]()
      }
    })

    test('a graceful stop ends streams and leaves sandboxes, terminals and sessions as they are', async () => {
      const first = await startOperator({ runtime })
      let second: TestOperator | undefined
      try {
        const sandbox = await first.newSandbox()
        const terminal = await first.call('POST', `/api/sandboxes/${sandbox}/live/terminal/sessions`, { body: {} })
        await first.call('POST', `/api/sandboxes/${sandbox}/secrets`, { body: { env_json: { TOKEN: 'kept' } } })
        const feed = await first.fetch('GET', '/api/events/stream')
        const drained = readEvents(feed)
        await drained.next()
        assert.equal(await first.stop(), 0)
        for await (const _event of drained); // It ends by itself.
        second = await startOperator({ runtime, folder: first.folder })
        const { body } = await second.call('GET', `/api/sandboxes/${sandbox}`)
        assert.equal(body.status, 'running')
        const sessions = await second.call('GET', `/api/sandboxes/${sandbox}/live/terminal/sessions`)
        assert.equal(sessions.body.sessions[0].session_id, terminal.body.session_id)
        const result = await second.call('POST', `/api/sandboxes/${sandbox}/exec`, { body: { command: 'echo $TOKEN' } })
        assert.equal(result.body.stdout, 'kept\n')
      } finally {
        await (second ?? first)[Symbol.asyncDispose]()
      }
    })

    test('a removal that the operator did not live to finish is finished with its own reason', async () => {
      const first = await startOperator({ runtime, env: { SANDBOX_REAPER_INTERVAL: '1' } })
      let second: TestOperator | undefined
      try {
        const sandbox = await first.newSandbox({ max_lifetime_seconds: 1 })
        const db = new DatabaseSync(path.join(first.folder, 'state/atoll.db'), { readOnly: true })
        const state = db.prepare('select state from sandboxes where id = ?')
        while (!['deleting', 'ended'].includes(String(state.get(sandbox)?.['state']))) await new Promise(setImmediate)
        await first.kill()
        db.close()
        second = await startOperator({ runtime, folder: first.folder })
        const { body } = await second.call('GET', `/api/sandboxes/${sandbox}`)
        assert.deepEqual([body.status, body.end], ['ended', { reason: 'lifetime' }])
      } finally {
        await (second ?? first)[Symbol.asyncDispose]()
      }
    })

    test('an operator that lost its records touches none of what it made before', async () => {
      const first = await startOperator({ runtime })
      const sandbox = await first.newSandbox()
      const stranger = await startOperator({ runtime })
      try {
        await stranger.call('GET', '/health')
        assert.equal((await first.call('GET', `/api/sandboxes/${sandbox}`)).body.status, 'running')
        assert.equal((await first.call('POST', `/api/sandboxes/${sandbox}/exec`, { body: { command: 'true' } })).body.exit_code, 0)
      } finally {
        await stranger[Symbol.asyncDispose]()
        await first[Symbol.asyncDispose]()
      }
    })
  })
}

test('a reader whose events are not kept any more is told so, and reads on from what is', async () => {
  const first = await startOperator({ runtime: 'namespace' })
  let second: TestOperator | undefined
  try {
    const ended = await first.newSandbox()
    await first.call('DELETE', `/api/sandboxes/${ended}`)
    const { events } = (await first.call('GET', '/api/events')).body
    await first.stop()
    const db = new DatabaseSync(path.join(first.folder, 'state/atoll.db'))
    db.exec(`update events set at = at - ${31 * 86_400_000}; update sandboxes set ended_at = ended_at - ${8 * 86_400_000}`)
    db.close()
    second = await startOperator({ runtime: 'namespace', folder: first.folder, env: { SANDBOX_REAPER_INTERVAL: '1' } })
    const at = (cursor: number) => second?.call('GET', `/api/events?cursor=${cursor}`)
    while ((await at(0))?.body.events.length > 0) await new Promise((resolve) => setTimeout(resolve, 50))
    const gone = await at(events[0].seq)
    assert.deepEqual([gone?.status, gone?.body.code], [410, 'event.gone'])
    assert.equal((await second.call('GET', `/api/events/stream?cursor=${events[0].seq}`)).status, 410)
    assert.equal((await at(events.at(-1).seq))?.status, 200, 'who has seen them all has missed nothing')
    while ((await second.call('GET', `/api/sandboxes/${ended}`)).body.status) await new Promise((resolve) => setTimeout(resolve, 50))
    const sandbox = await second.newSandbox()
    assert.equal((await at(0))?.body.events[0].sandbox_id, sandbox)
  } finally {
    await (second ?? first)[Symbol.asyncDispose]()
  }
})

test('a graceful stop takes the control groups of the operator away', async () => {
  await using operator = await startOperator({ runtime: 'namespace' })
  await operator.call('DELETE', `/api/sandboxes/${await operator.newSandbox()}`)
  const { v1, v2 } = readCgroupLayout()
  const db = new DatabaseSync(path.join(operator.folder, 'state/atoll.db'))
  const name = String(db.prepare(`select value from settings where name = 'instance_id'`).get()?.['value'])
  db.close()
  const groups = [...v1.values(), ...(v2 ? [v2.root] : [])].map((root) => path.join(root, 'atoll', name))
  assert.ok(groups.some((group) => existsSync(group)))
  assert.equal(await operator.stop(), 0)
  assert.deepEqual(
    groups.filter((group) => existsSync(group)),
    [],
  )
})
