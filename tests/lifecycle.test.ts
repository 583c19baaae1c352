// A sandbox's life through the API.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { after, before, describe, test } from 'node:test'
import { readEvents } from './events.ts'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

for (const { name: runtime, skip } of testRuntimes) {
  describe(`on ${runtime}`, { skip }, () => {
    let operator: TestOperator
    before(async () => {
      operator = await startOperator({ runtime })
    })
    after(() => operator[Symbol.asyncDispose]())

    const call = (method: string, target: string, body?: object, key?: string) =>
      operator.call(method, target, { ...(body && { body }), ...(key && { key }) })
    const exec = async (id: string, command: string) => (await call('POST', `/api/sandboxes/${id}/exec`, { command })).body

    test('every field of the creation struct is taken, and what holds is answered', async () => {
      const { status, body } = await call('POST', '/api/sandboxes', {
        name: 'whole',
        image: '',
        stack: 'web',
        agent_identifier: 'default',
        env_json: '{"A":"1","N":2,"T":true}',
        metadata_json: { ports: [3000, { container_port: 4000, host_port: 1, protocol: 'tcp' }], team: 'blue' },
        ssh_enabled: false,
        ssh_public_key: '',
        web_terminal_enabled: true,
        max_lifetime_seconds: 99_999_999 % 31_536_000,
        idle_timeout_seconds: 60,
        cpu_cores: 1,
        memory_mb: 256,
        disk_gb: 1,
        tee_required: false,
        tee_type: 0,
        attestation_nonce: '',
        capabilities_json: '["all_harness","flying"]',
      })
      assert.equal(status, 201)
      assert.deepEqual(
        { ...body, id: '', created_at: 0, last_activity_at: 0, sidecar_url: '', call_id: 0, image: '' },
        {
          id: '',
          name: 'whole',
          image: '',
          sidecar_url: '',
          state: 'running',
          status: 'running',
          runtime,
          agent_identifier: 'default',
          cpu_cores: 1,
          memory_mb: 256,
          disk_gb: 1,
          created_at: 0,
          last_activity_at: 0,
          ssh_port: null,
          service_id: 1,
          extra_ports: { '3000': 3000, '4000': 4000 },
          idle_timeout_seconds: 60,
          max_lifetime_seconds: 172_800,
          idle_action: 'stop',
          auto_resume: false,
          credentials_available: true,
          circuit_breaker_active: false,
          circuit_breaker_probing: false,
          owner: 'admin',
          metadata: { team: 'blue', runtime_backend: runtime, stack: 'web' },
          call_id: 0,
        },
      )
      assert.deepEqual((await exec(body.id, 'echo "$A $N $T"')).stdout, '1 2 true\n')
      const provision = await call('GET', `/api/provisions/${body.call_id}`)
      assert.deepEqual([provision.body.phase, provision.body.progress_pct, provision.body.sandbox_id], ['ready', 100, body.id])
    })

    test('the same Idempotency-Key makes one sandbox, also at the same time, and no other body', async () => {
      const create = (body: object) =>
        operator.call('POST', '/api/sandboxes', {
          body: { memory_mb: 256, disk_gb: 1, ...body },
          headers: { 'idempotency-key': `k-${runtime}` },
        })
      const answers = await Promise.all([create({ name: 'once' }), create({ name: 'once' }), create({ name: 'once' })])
      assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([201]))
      assert.equal(new Set(answers.map(({ body }) => body.id)).size, 1)
      const { status, body } = await create({ name: 'twice' })
      assert.deepEqual([status, body.code], [422, 'idempotency.mismatch'])
      await call('DELETE', `/api/sandboxes/${answers[0]?.body.id}`)
      const late = await create({ name: 'once' })
      assert.deepEqual([late.status, late.body.code], [409, 'sandbox.ended'], 'a key that has had its sandbox makes no second one')
    })

    test('stop keeps the files, resume starts again, and both are safe to repeat', async () => {
      const id = await operator.newSandbox()
      await exec(id, 'echo kept > file; sleep 1000 & disown')
      for (const _ of [1, 2]) {
        const { status, body } = await call('POST', `/api/sandboxes/${id}/stop`)
        assert.deepEqual([status, body], [200, { success: true, sandbox_id: id, state: 'stopped' }])
      }
      const refused = await call('POST', `/api/sandboxes/${id}/exec`, { command: 'true' })
      assert.deepEqual([refused.status, refused.body.error], [409, `Sandbox ${id} is stopped; resume it first`])
      for (const _ of [1, 2]) {
        const { status, body } = await call('POST', `/api/sandboxes/${id}/resume`, {})
        assert.deepEqual([status, body], [200, { success: true, sandbox_id: id, state: 'running' }])
      }
      assert.equal((await exec(id, 'cat file')).stdout, 'kept\n')
    })

    test('a reader that may only look holds no process up', async () => {
      const id = await operator.newSandbox()
      const { body: started } = await call('POST', `/api/sandboxes/${id}/processes`, { command: 'sleep 1; head -c 20000000 /dev/zero' })
      const at = `/api/sandboxes/${id}/processes/${started.id}`
      const headers = { authorization: `Bearer ${await operator.newKey('admin', 'read')}` }
      const reader = http.get(`${operator.url}${at}/events`, { headers })
      const [answer] = await once(reader, 'response')
      assert.equal(answer.statusCode, 200)
      let exit: unknown
      for (let looks = 0; !exit && looks < 200; looks += 1) {
        await new Promise((resolve) => setTimeout(resolve, 100))
        exit = (await call('GET', at)).body.exit
      }
      reader.destroy()
      assert.deepEqual(exit, { type: 'exited', code: 0 })
    })

    test('secrets reach later processes at once, survive a stop, and are gone when wiped; the workspace stays', async () => {
      const id = await operator.newSandbox({ env_json: { BASE: 'b' } })
      const at = `/api/sandboxes/${id}/secrets`
      await exec(id, 'echo work > file')
      const set = await call('POST', at, { env_json: { TOKEN: 's3cret' } })
      assert.deepEqual(set.body, { status: 'secrets_configured', sandbox_id: id, credentials_available: true })
      assert.equal((await exec(id, 'echo $BASE $TOKEN $(cat /run/secrets/TOKEN) $(cat file)')).stdout, 'b s3cret s3cret work\n')
      await call('POST', `/api/sandboxes/${id}/stop`)
      await call('POST', `/api/sandboxes/${id}/resume`)
      assert.equal((await exec(id, 'echo $BASE $TOKEN $(cat file)')).stdout, 'b s3cret work\n')
      assert.deepEqual((await call('GET', at)).body.env_json, { TOKEN: 's3cret' })
      await call('DELETE', at, {})
      assert.equal((await exec(id, 'echo $BASE "$TOKEN"; ls /run/secrets; cat file')).stdout, 'b \nwork\n')
      assert.equal((await call('POST', at, { env_json: {} })).body.code, 'request.invalid')
    })

    test('a deleted sandbox is gone on every route, and deleting it is safe to repeat', async () => {
      const id = await operator.newSandbox()
      for (const _ of [1, 2]) assert.deepEqual((await call('DELETE', `/api/sandboxes/${id}`, {})).body, { deleted: true, sandbox_id: id })
      assert.equal((await call('GET', `/api/sandboxes/${id}`)).status, 404)
      assert.equal((await call('POST', `/api/sandboxes/${id}/exec`, { command: 'true' })).status, 404)
      const { body } = await call('GET', '/api/sandboxes?state=ended,running,stopped&limit=500')
      assert.ok(!body.sandboxes.some((sandbox: { id: string }) => sandbox.id === id))
    })

    test('a creation can be followed without waiting, and deleted while it is under way', async () => {
      const created = await call('POST', '/api/sandboxes?wait=false', { memory_mb: 256, disk_gb: 1 })
      assert.deepEqual([created.status, created.body.status, created.body.state], [202, 'creating', 'stopped'])
      const removed = await call('DELETE', `/api/sandboxes/${created.body.id}`)
      assert.equal(removed.status, 200)
      assert.equal((await call('GET', `/api/sandboxes/${created.body.id}`)).status, 404)
      const { body } = await call('GET', `/api/events?limit=1000`)
      const types = body.events
        .filter((event: { sandbox_id: string }) => event.sandbox_id === created.body.id)
        .map(({ type }: { type: string }) => type)
      assert.equal(types[0], 'sandbox.creating')
      assert.match(types.at(-1), /sandbox\.(deleted|ended)/)
    })

    test('the event feed has every move in order, and a follower that reconnects misses none', async () => {
      const id = await operator.newSandbox()
      await call('POST', `/api/sandboxes/${id}/stop`)
      const page = await call('GET', `/api/sandboxes/${id}/events`)
      assert.deepEqual(
        page.body.events.map(({ type }: { type: string }) => type),
        ['sandbox.creating', 'sandbox.running', 'sandbox.stopped'],
      )
      const stream = await operator.fetch('GET', `/api/sandboxes/${id}/events/stream`, {
        headers: { 'last-event-id': String(page.body.events[1].seq) },
      })
      const events = readEvents(stream)
      assert.equal((await events.next()).value?.event, 'sandbox.stopped')
      await call('POST', `/api/sandboxes/${id}/resume`)
      assert.equal((await events.next()).value?.event, 'sandbox.running')
      await events.return(undefined)
    })

    test('a list has pages, states and metadata', async () => {
      const key = await operator.newKey(`lister-${runtime}`)
      const ids: string[] = []
      for (const index of [0, 1, 2]) ids.unshift(await operator.newSandbox({ metadata_json: { group: `g${index % 2}` } }, key))
      await call('POST', `/api/sandboxes/${ids[0]}/stop`, {}, key)
      const list = async (query: string) => (await call('GET', `/api/sandboxes?${query}`, undefined, key)).body
      const first = await list('limit=2')
      assert.deepEqual(
        first.sandboxes.map(({ id }: { id: string }) => id),
        ids.slice(0, 2),
      )
      const second = await list(`limit=2&cursor=${first.next_cursor}`)
      assert.deepEqual([second.sandboxes.map(({ id }: { id: string }) => id), second.next_cursor], [ids.slice(2), undefined])
      assert.deepEqual(
        (await list('state=stopped')).sandboxes.map(({ id }: { id: string }) => id),
        ids.slice(0, 1),
      )
      assert.deepEqual(
        (await list('metadata=group=g1')).sandboxes.map(({ id }: { id: string }) => id),
        ids.slice(1, 2),
      )
      assert.equal((await list('cursor=nonsense')).code, 'request.invalid')
    })

    test("the singleton routes lead to the caller's only sandbox", async () => {
      const key = await operator.newKey(`single-${runtime}`)
      const none = await call('POST', '/api/sandbox/exec', { command: 'true' }, key)
      assert.deepEqual([none.status, none.body.error], [404, 'Instance not provisioned'])
      const id = await operator.newSandbox({}, key)
      assert.equal((await call('GET', '/api/sandbox', undefined, key)).body.id, id)
      assert.equal((await call('POST', '/api/sandbox/exec', { command: 'echo one' }, key)).body.stdout, 'one\n')
      await operator.newSandbox({}, key)
      assert.equal((await call('GET', '/api/sandbox', undefined, key)).body.code, 'sandbox.ambiguous')
    })

    test('a caller that gives up on an exec ends the command', async () => {
      const id = await operator.newSandbox()
      const abort = new AbortController()
      const pending = operator.call('POST', `/api/sandboxes/${id}/exec`, {
        body: { command: 'sleep 300; echo done > late' },
        signal: abort.signal,
      })
      await exec(id, 'until pgrep -f "sleep 300" >/dev/null; do sleep 0.05; done')
      abort.abort()
      await assert.rejects(pending)
      const { exit_code } = await exec(id, 'for i in $(seq 100); do pgrep -f "^sleep 300" >/dev/null || exit 0; sleep 0.1; done; exit 1')
      assert.equal(exit_code, 0)
    })
  })
}

test('budgets refuse creations and resumes alike, and the count holds stopped sandboxes too', async () => {
  const operator = await startOperator({ runtime: 'namespace', env: { SANDBOX_HOST_MEMORY_BUDGET_MB: '512', SANDBOX_MAX_COUNT: '3' } })
  try {
    const first = await operator.newSandbox({ memory_mb: 256 })
    await operator.newSandbox({ memory_mb: 256 })
    const create = () => operator.call('POST', '/api/sandboxes', { body: { memory_mb: 256, disk_gb: 1 } })
    const over = await create()
    assert.deepEqual([over.status, over.body.code], [503, 'capacity.exhausted'])
    assert.ok(Number(over.headers.get('retry-after')) > 0)
    await operator.call('POST', `/api/sandboxes/${first}/stop`)
    assert.equal((await create()).status, 201)
    const resumed = await operator.call('POST', `/api/sandboxes/${first}/resume`)
    assert.deepEqual([resumed.status, resumed.body.code], [503, 'capacity.exhausted'])
    assert.match((await create()).body.error, /memory budget|limit reached/i)
  } finally {
    await operator[Symbol.asyncDispose]()
  }
})

test('more creations than may wait are refused at once', async () => {
  const operator = await startOperator({ runtime: 'namespace', env: { ATOLL_CREATE_PARALLEL: '1', ATOLL_CREATE_QUEUE: '1' } })
  try {
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => operator.call('POST', '/api/sandboxes', { body: { memory_mb: 256, disk_gb: 1 } })),
    )
    const refused = answers.filter(({ status }) => status !== 201)
    assert.ok(refused.length >= 1 && refused.length <= 4)
    for (const { status, body } of refused) assert.deepEqual([status, body.code], [503, 'capacity.queue_full'])
  } finally {
    await operator[Symbol.asyncDispose]()
  }
})

test('an idle sandbox is stopped, one in use is not, and one past its lifetime ends', async () => {
  const operator = await startOperator({ runtime: 'namespace', env: { SANDBOX_REAPER_INTERVAL: '1' } })
  try {
    // Long enough for what keeps them busy to begin, on a machine that is busy too.
    const busy = await operator.newSandbox({ idle_timeout_seconds: 3 })
    await operator.call('POST', `/api/sandboxes/${busy}/processes`, { body: { command: 'sleep 600' } })
    const thinking = await operator.newSandbox({ idle_timeout_seconds: 3 })
    await operator.call('POST', `/api/sandboxes/${thinking}/agents/runs`, { body: { prompt: '[[sleep:600000]]', harness: 'echo' } })
    const idle = await operator.newSandbox({ idle_timeout_seconds: 4 })
    const old = await operator.newSandbox({ max_lifetime_seconds: 1 })
    const ended = operator.fetch('GET', '/api/events/stream')
    const seen = new Map<string, string>()
    for await (const { event, data } of readEvents(await ended)) {
      if (event === 'sandbox.stopped' || event === 'sandbox.ended') seen.set(data.sandbox_id, data.data.reason)
      if (seen.has(idle) && seen.has(old)) break
    }
    assert.deepEqual(Object.fromEntries(seen), { [idle]: 'idle', [old]: 'lifetime' })
    for (const id of [busy, thinking]) assert.equal((await operator.call('GET', `/api/sandboxes/${id}`)).body.status, 'running')
    const { body } = await operator.call('GET', `/api/sandboxes/${old}`)
    assert.deepEqual([body.status, body.end], ['ended', { reason: 'lifetime' }])
  } finally {
    await operator[Symbol.asyncDispose]()
  }
})
