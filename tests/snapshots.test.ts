// Disks that are kept as they are at one moment, and sandboxes that begin with them.
import assert from 'node:assert/strict'
import { globSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { plant, tree } from './disk-tree.ts'
import { testRuntimes } from './runtimes.ts'
import { type Answer, startOperator, type TestOperator } from './start-operator.ts'

const small = { memory_mb: 128, disk_gb: 1 }
/** Nobody else lets go on what a snapshot made stand still. */
const env = { ATOLL_MAX_SNAPSHOTS: '3', ATOLL_DEFAULT_DISK_GB: '1', SANDBOX_REAPER_INTERVAL: '3600' }
/** Counts without a process that is born and dies. */
const counting = `node=/opt/atoll/node; exec $node -e "let n = 0; setInterval(() => require('fs').appendFileSync('ticks', ++n + '\\n'), 2)"`

for (const { name, skip } of testRuntimes) {
  describe(`snapshots of ${name} sandboxes`, { skip }, () => {
    let operator: TestOperator
    before(async () => {
      operator = await startOperator({ runtime: name, env })
    })
    after(() => operator?.[Symbol.asyncDispose]())

    const post = (target: string, body: object = {}, key = operator.adminKey): Promise<Answer> =>
      operator.call('POST', target, { body, key })
    const run = async (id: string, command: string): Promise<string> => {
      const { status, body, text } = await post(`/api/sandboxes/${id}/exec`, { command })
      assert.equal(status, 200, text)
      assert.equal(body.exit_code, 0, body.stderr)
      return body.stdout.trim()
    }
    const keep = async (id: string, body: object = {}): Promise<string> => {
      const made = await post(`/api/sandboxes/${id}/snapshots`, body)
      assert.deepEqual([made.status, made.body.state, made.body.progress_pct], [201, 'ready', 100], made.text)
      return made.body.id
    }
    const remove = (...ids: string[]) =>
      Promise.all(ids.map((id) => operator.call('DELETE', `/api/${id.startsWith('snapshot') ? 'snapshots' : 'sandboxes'}/${id}`)))
    const filesOf = (): string[] => {
      const directory = path.join(operator.folder, 'state/snapshots')
      return [...readdirSync(directory), ...readdirSync(path.join(directory, 'work'))].filter((entry) => entry !== 'work')
    }
    const refusal = ({ status, body }: Answer): [number, string] => [status, body.code]

    test('a sandbox made from one has the same disk to the last bit, its shape, and nothing of the environment', async () => {
      const id = await operator.newSandbox({
        ...small,
        env_json: { GIVEN: 'secret-of-the-first' },
        metadata_json: { team: 'blue', ports: [3000] },
      })
      await run(id, plant)
      await run(id, 'cd /home/agent/workspace; chmod 000 "with blank"; echo "$GIVEN" | grep -q secret')
      const sid = await keep(id, { name: 'first' })
      const before = await run(id, tree)
      assert.match(before, /not.text[\s\S]*hard\n1$/)
      await remove(id)
      const made = await post('/api/sandboxes', { snapshot: sid, env_json: { OTHER: 'new' } })
      assert.equal(made.status, 201, made.text)
      const { body } = made
      assert.deepEqual([body.memory_mb, body.disk_gb, body.metadata.team, body.extra_ports], [128, 1, 'blue', { 3000: 3000 }])
      assert.notEqual(body.id, id)
      assert.equal(await run(body.id, 'stat -c %a "with blank"'), '0')
      assert.equal(await run(body.id, tree), before)
      assert.equal(
        await run(body.id, 'echo "$GIVEN$OTHER"; touch new; sed -i s/mine/yours/ ~/.bashrc; head -c 9 old; cat ~/.bashrc'),
        'new\nyours',
      )
      const larger = await post('/api/sandboxes', { snapshot: sid, disk_gb: 2 })
      assert.equal(larger.status, 201, larger.text)
      assert.ok(Number(await run(larger.body.id, 'df --output=size -m . | tail -n 1')) > 1900)
      assert.equal(await run(larger.body.id, tree), before)
      assert.equal(
        (await post('/api/sandboxes', { snapshot: sid, memory_mb: 256, disk_gb: 3, metadata_json: { runtime_backend: 'tee' } })).body.code,
        'request.invalid',
      )
      await remove(body.id, larger.body.id, sid)
      assert.deepEqual(filesOf(), [])
    })

    test('what runs goes on in the same process, and a repeat under the same key is the same snapshot', async () => {
      const id = await operator.newSandbox(small)
      await post(`/api/sandboxes/${id}/processes`, { command: counting })
      await run(id, 'until [ -s ticks ]; do sleep 0.01; done')
      const pid = await run(id, 'pgrep -f [s]etInterval')
      const ask = (key: string, body: object) =>
        operator.call('POST', `/api/sandboxes/${id}/snapshots?wait=false`, { body, headers: { 'idempotency-key': key } })
      const first = await ask('once', { name: 'a' })
      assert.deepEqual([first.status, first.body.state], [202, 'creating'])
      assert.equal((await ask('once', { name: 'a' })).body.id, first.body.id)
      assert.deepEqual(refusal(await ask('once', { name: 'b' })), [422, 'idempotency.mismatch'])
      const look = async (): Promise<Answer['body']> => (await operator.call('GET', `/api/snapshots/${first.body.id}`)).body
      for (let tries = 0; (await look()).state === 'creating'; tries += 1) {
        assert.ok(tries < 200)
        await delay(20)
      }
      assert.equal((await look()).state, 'ready')
      assert.equal(await run(id, 'pgrep -f [s]etInterval'), pid)
      const ticks = Number(await run(id, 'wc -l < ticks'))
      await run(id, `until [ $(wc -l < ticks) -gt ${ticks} ]; do sleep 0.01; done`)
      assert.equal(await run(id, `awk '$1 != NR' ticks | head -n 1`), '')
      const made = await post('/api/sandboxes', { snapshot: first.body.id })
      assert.ok(Number(await run(made.body.id, 'wc -l < ticks')) > 0)
      const { body } = await operator.call('GET', '/api/events?limit=1000')
      const types = body.events.filter(({ data }: { data: { snapshot_id?: string } }) => data.snapshot_id === first.body.id)
      assert.deepEqual(
        types.map(({ type }: { type: string }) => type),
        ['snapshot.creating', 'snapshot.ready'],
      )
      await remove(id, made.body.id, first.body.id)
    })

    const rounds = name === 'namespace' ? 50 : 20
    test(`${rounds} rounds of stop, snapshot and a new sandbox from it change nothing`, async () => {
      let id = await operator.newSandbox(small)
      await run(id, plant)
      const before = await run(id, tree)
      for (let round = 0; round < rounds; round += 1) {
        assert.equal((await post(`/api/sandboxes/${id}/stop`)).status, 200)
        const sid = await keep(id)
        const made = await post('/api/sandboxes', { snapshot: sid })
        assert.equal(made.status, 201, made.text)
        await remove(id, sid)
        id = made.body.id
      }
      assert.equal(await run(id, tree), before)
      await remove(id)
    })

    test('a fork makes sandboxes that are others, with disks that are their own, or none', async () => {
      const id = await operator.newSandbox({ ...small, name: 'origin' })
      await run(id, plant)
      const policy = { mode: 'none', rules: [], presets: [] }
      assert.equal((await operator.call('PUT', `/api/sandboxes/${id}/egress`, { body: policy })).status, 200)
      const { status, body, text } = await post(`/api/sandboxes/${id}/fork`, { count: 3, name: 'copy', env_json: { WHO: 'copy' } })
      assert.equal(status, 201, text)
      const before = await run(id, tree)
      const ids: string[] = body.sandboxes.map((one: { id: string }) => one.id)
      assert.equal(new Set([id, ...ids]).size, 4)
      assert.deepEqual(body.sandboxes.map((one: { name: string }) => one.name).sort(), ['copy-1', 'copy-2', 'copy-3'])
      for (const one of ids) assert.equal(await run(one, tree), before)
      for (const one of ids) await run(one, `echo ${one} > own; echo $WHO >> own; cp own a/b/data`)
      for (const one of ids) assert.equal(await run(one, 'cat own hard'), `${one}\ncopy\n${one}\ncopy`)
      for (const one of ids) assert.equal((await operator.call('GET', `/api/sandboxes/${one}/egress`)).body.mode, 'none')
      assert.equal(await run(id, tree), before)
      const open = await post(`/api/sandboxes/${id}/fork`, { egress: { mode: 'internet' } })
      const [own] = open.body.sandboxes
      assert.equal((await operator.call('GET', `/api/sandboxes/${own.id}/egress`)).body.mode, 'internet')
      await remove(own.id)
      assert.equal((await post(`/api/sandboxes/${id}/fork`, { count: 17 })).status, 400)
      assert.equal((await post(`/api/sandboxes/${id}/fork`, { count: 2, image: 'no/such:image' })).status, 400)
      const listed = (await operator.call('GET', '/api/sandboxes')).body.sandboxes
      assert.equal(listed.length, 4)
      await remove(id, ...ids)
      assert.deepEqual(filesOf(), [])
    })

    test('what is not what was written is refused, and nothing is made of it', async () => {
      const id = await operator.newSandbox(small)
      await run(id, 'head -c 3000000 /dev/urandom > data')
      const sid = await keep(id)
      const file = path.join(operator.folder, 'state/snapshots', `${sid}.snapshot`)
      const whole = readFileSync(file)
      assert.ok(!whole.includes('data'), 'it can be read')
      const changed = (change: (bytes: Buffer) => Buffer): Buffer => change(Buffer.from(whole))
      const flip = (at: number) =>
        changed((bytes) => {
          bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
          return bytes
        })
      const cases: [string, Buffer, string][] = [
        ['a bit at the end', flip(whole.length - 1), 'snapshot.damaged'],
        ['a bit in the middle', flip(whole.length >> 1), 'snapshot.damaged'],
        ['no last piece', changed((bytes) => bytes.subarray(0, 12 + 2 * (4 + 1024 * 1024 + 16))), 'snapshot.damaged'],
        ['half a piece', changed((bytes) => bytes.subarray(0, bytes.length - 5)), 'snapshot.damaged'],
        ['more than there was', changed((bytes) => Buffer.concat([bytes, bytes.subarray(12)])), 'snapshot.damaged'],
        ['nothing', Buffer.alloc(0), 'snapshot.damaged'],
        [
          'a newer format',
          changed((bytes) => Buffer.concat([bytes.subarray(0, 11), Buffer.from([2]), bytes.subarray(12)])),
          'snapshot.newer_format',
        ],
      ]
      for (const [what, bytes, code] of cases) {
        writeFileSync(file, bytes)
        assert.deepEqual(refusal(await post('/api/sandboxes', { snapshot: sid })), [409, code], what)
      }
      writeFileSync(file, whole)
      const listed = (await operator.call('GET', '/api/sandboxes')).body.sandboxes
      assert.deepEqual(
        listed.map((one: { id: string }) => one.id),
        [id],
      )
      assert.deepEqual(globSync(path.join(operator.folder, 'state/sandboxes/*')).length, 1)
      assert.deepEqual(filesOf(), [`${sid}.snapshot`])
      const made = await post('/api/sandboxes', { snapshot: sid })
      assert.equal(made.status, 201, made.text)
      await remove(id, made.body.id, sid)
    })

    test('belong to their owner, who may have so many, and may be deleted twice', async () => {
      const ann = await operator.newKey(`ann-${name}`)
      const bob = await operator.newKey(`bob-${name}`)
      const id = await operator.newSandbox(small, ann)
      const create = () => post(`/api/sandboxes/${id}/snapshots`, {}, ann)
      const made = [await create(), await create(), await create()]
      assert.deepEqual(
        made.map(({ status }) => status),
        [201, 201, 201],
      )
      assert.deepEqual(refusal(await create()), [429, 'snapshot.too_many'])
      const [sid = '', ...others]: string[] = made.map(({ body }) => body.id)
      for (const [method, target, body] of [
        ['GET', `/api/snapshots/${sid}`, undefined],
        ['POST', `/api/sandboxes/${id}/snapshots`, {}],
        ['POST', `/api/sandboxes/${id}/fork`, {}],
        ['POST', '/api/sandboxes', { snapshot: sid }],
      ] as const) {
        assert.equal((await operator.call(method, target, { key: bob, ...(body && { body }) })).status, 404, target)
      }
      assert.equal((await operator.call('DELETE', `/api/snapshots/${sid}`, { key: bob })).status, 200)
      assert.deepEqual((await operator.call('GET', '/api/snapshots', { key: bob })).body.snapshots, [])
      const page = (await operator.call('GET', '/api/snapshots?limit=2', { key: ann })).body
      const rest = (await operator.call('GET', `/api/snapshots?limit=2&cursor=${page.next_cursor}`, { key: ann })).body
      assert.deepEqual([...page.snapshots, ...rest.snapshots].map((one) => one.id).sort(), [sid, ...others].sort())
      assert.equal(rest.next_cursor, undefined)
      for (const one of [sid, sid]) assert.equal((await operator.call('DELETE', `/api/snapshots/${one}`, { key: ann })).status, 200)
      assert.deepEqual(refusal(await post('/api/sandboxes', { snapshot: sid }, ann)), [404, 'snapshot.not_found'])
      await remove(id, ...others)
    })

    test('the quota of the service holds for what is made from them, for all or for none', async () => {
      const ann = await operator.newKey(`quota-${name}`)
      const service = await operator.call('POST', '/api/services', {
        body: { name: 's', owner: `quota-${name}`, quotas: { sandboxes: 3 } },
      })
      const id = await operator.newSandbox({ ...small, service_id: service.body.id }, ann)
      const sid = (await post(`/api/sandboxes/${id}/snapshots`, {}, ann)).body.id
      assert.deepEqual(refusal(await post(`/api/sandboxes/${id}/fork`, { count: 3 }, ann)), [429, 'capacity.quota'])
      assert.equal((await operator.call('GET', '/api/sandboxes', { key: ann })).body.sandboxes.length, 1)
      const made = await post(`/api/sandboxes/${id}/fork`, { count: 2 }, ann)
      assert.equal(made.status, 201, made.text)
      assert.equal(made.body.sandboxes[0].service_id, service.body.id)
      assert.deepEqual(refusal(await post('/api/sandboxes', { snapshot: sid }, ann)), [429, 'capacity.quota'])
      await remove(id, sid, ...made.body.sandboxes.map((one: { id: string }) => one.id))
    })

    test('what the sealing key protects opens after a rotation and a restart', async () => {
      const id = await operator.newSandbox(small)
      await run(id, 'echo kept > file')
      const sid = await keep(id)
      const rotated = await post('/api/sealing-key/rotate')
      const db = new DatabaseSync(path.join(operator.folder, 'state/atoll.db'), { readOnly: true })
      const sealed = String(db.prepare('select key_sealed from snapshots where id = ?').get(sid)?.['key_sealed'])
      db.close()
      assert.equal(sealed.split('.')[1], rotated.body.key_id)
      await operator.stop()
      operator = await startOperator({ runtime: name, env, folder: operator.folder })
      const made = await post('/api/sandboxes', { snapshot: sid })
      assert.equal(made.status, 201, made.text)
      assert.equal(await run(made.body.id, 'cat file'), 'kept')
      await remove(id, sid, made.body.id)
    })
  })
}

test('no copy is made, and nothing made of one, while it would leave less free than the reserve', async () => {
  await using operator = await startOperator({ runtime: 'namespace', env: { ...env, ATOLL_DISK_RESERVE_MB: '0' } })
  const id = await operator.newSandbox(small)
  const kept = await operator.call('POST', `/api/sandboxes/${id}/snapshots`)
  assert.equal(kept.status, 201, kept.text)
  await operator.stop()
  await using again = await startOperator({
    runtime: 'namespace',
    env: { ...env, ATOLL_DISK_RESERVE_MB: '999999999999' },
    folder: operator.folder,
  })
  for (const [target, body] of [
    [`/api/sandboxes/${id}/snapshots`, {}],
    [`/api/sandboxes/${id}/fork`, {}],
    ['/api/sandboxes', { snapshot: kept.body.id }],
  ] as const) {
    const refused = await again.call('POST', target, { body })
    assert.deepEqual([refused.status, refused.body.code], [503, 'capacity.exhausted'], target)
    assert.match(refused.body.error, /Delete a snapshot/)
  }
  assert.equal((await again.call('GET', '/api/snapshots')).body.snapshots.length, 1)
})
