// What every store must do; each implementation's test calls this.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { SandboxRecord } from './sandbox.ts'
import type { Store } from './store.ts'

export interface OpenedStore {
  readonly store: Store
  /** Opens what was written again, as after a restart. */
  reopen(): Promise<Store>
  close(): Promise<void>
}

const sample = (change: Partial<SandboxRecord> = {}): Omit<SandboxRecord, 'version' | 'callId'> => ({
  id: `sandbox-${randomUUID()}`,
  owner: 'ann',
  serviceId: 1,
  state: 'creating',
  end: undefined,
  runtime: 'namespace',
  name: 'one',
  image: '',
  agentIdentifier: '',
  cpuCores: 0.5,
  memoryMb: 256,
  diskGb: 1,
  pids: 64,
  ports: [3000],
  metadata: { team: 'blue', tier: 2, nested: { a: 1 } },
  capabilities: [],
  idleTimeoutSeconds: 60,
  maxLifetimeSeconds: 600,
  idleAction: 'stop',
  autoResume: false,
  socketPath: undefined,
  createdAt: 1000,
  lastActivityAt: 1000,
  stoppedAt: undefined,
  ...change,
})

const nothing = { env: undefined, secrets: undefined }

export function storeContract(name: string, open: () => Promise<OpenedStore>): void {
  const check = (sentence: string, work: (opened: OpenedStore) => Promise<void>): void => {
    test(`${name}: ${sentence}`, async () => {
      const opened = await open()
      try {
        await work(opened)
      } finally {
        await opened.close()
      }
    })
  }

  check('what was inserted is read back whole, also after a restart', async ({ store, reopen }) => {
    const sandbox = sample()
    const inserted = await store.insert(sandbox, { env: 'sealed-env', secrets: undefined })
    assert.deepEqual(inserted, { ...sandbox, version: 1, callId: inserted.callId })
    const again = await reopen()
    assert.deepEqual(await again.get(sandbox.id), inserted)
    assert.deepEqual(await again.sealed(sandbox.id), { env: 'sealed-env', secrets: undefined })
    assert.equal((await again.provision(inserted.callId))?.phase, 'queued')
  })

  check('only one of two moves from the same version succeeds', async ({ store }) => {
    const inserted = await store.insert(sample(), nothing)
    const event = { type: 'sandbox.running', sandboxId: inserted.id }
    const results = await Promise.all([store.move(inserted, 'running', {}, event), store.move(inserted, 'ended', {}, event)])
    assert.equal(results.filter((result) => result !== undefined).length, 1)
    const types = (await store.events({ sandboxId: inserted.id, cursor: 0, limit: 10 })).map(({ type }) => type)
    assert.deepEqual(types, ['sandbox.creating', 'sandbox.running'], 'the move that failed wrote no event')
  })

  check('a sandbox that ended has no sealed text left', async ({ store }) => {
    const inserted = await store.insert(sample(), { env: 'sealed', secrets: 'sealed' })
    await store.move(inserted, 'ended', { end: { reason: 'deleted' } }, { type: 'sandbox.deleted', sandboxId: inserted.id })
    assert.deepEqual(await store.sealed(inserted.id), nothing)
    assert.deepEqual((await store.get(inserted.id))?.end, { reason: 'deleted' })
  })

  check('a list is newest first, filtered by owner, state and metadata, and goes on after any sandbox', async ({ store }) => {
    for (const index of [1, 2, 3, 4]) {
      await store.insert(
        sample({ id: `s${index}`, createdAt: index * 10, metadata: { team: index % 2 ? 'blue' : 'red', on: index === 3 } }),
        nothing,
      )
    }
    await store.insert(sample({ id: 'other', owner: 'bob', createdAt: 99 }), nothing)
    const ids = async (filter: Parameters<Store['list']>[0]) => (await store.list(filter)).map(({ id }) => id)
    assert.deepEqual(await ids({ owner: 'ann' }), ['s4', 's3', 's2', 's1'])
    assert.deepEqual(await ids({ owner: 'ann', limit: 2 }), ['s4', 's3'])
    assert.deepEqual(await ids({ owner: 'ann', after: { createdAt: 30, id: 's3' } }), ['s2', 's1'])
    assert.deepEqual(await ids({ owner: 'ann', metadata: [['team', 'blue']] }), ['s3', 's1'])
    assert.deepEqual(await ids({ owner: 'ann', metadata: [['on', 'true']] }), ['s3'])
    assert.deepEqual(await ids({ owner: 'ann', metadata: [['team', "x' or 1=1 --"]] }), [])
    assert.deepEqual(await ids({ owner: 'ann', states: ['running'] }), [])
    assert.deepEqual(await ids({}), ['other', 's4', 's3', 's2', 's1'])
  })

  check('usage counts stopped sandboxes as sandboxes but not as memory', async ({ store }) => {
    const running = await store.insert(sample({ memoryMb: 100, cpuCores: 1 }), nothing)
    const stopped = await store.insert(sample({ memoryMb: 200, cpuCores: 2 }), nothing)
    const ended = await store.insert(sample({ memoryMb: 400, cpuCores: 4 }), nothing)
    const move = async (record: SandboxRecord, ...states: SandboxRecord['state'][]): Promise<void> => {
      let current: SandboxRecord | undefined = record
      for (const state of states) current = current && (await store.move(current, state, {}, { type: 'x', sandboxId: record.id }))
    }
    await move(running, 'running')
    await move(stopped, 'running', 'stopped')
    await move(ended, 'ended')
    assert.deepEqual(await store.usage(), { sandboxes: 2, memoryMb: 100, cpuCores: 1, diskGb: 2 })
  })

  check('an idempotency key belongs to its owner and cannot be written twice', async ({ store }) => {
    const inserted = await store.insert(sample(), nothing, { key: 'k', fingerprint: 'f' })
    assert.deepEqual(await store.findIdempotent('ann', 'k'), { sandboxId: inserted.id, fingerprint: 'f' })
    assert.equal(await store.findIdempotent('bob', 'k'), undefined)
    const second = sample()
    await assert.rejects(store.insert(second, nothing, { key: 'k', fingerprint: 'g' }))
    assert.equal(await store.get(second.id), undefined, 'a refused insert leaves nothing')
  })

  check('events have a cursor, an order, and belong to an owner', async ({ store }) => {
    const ann = await store.insert(sample(), nothing)
    const bob = await store.insert(sample({ owner: 'bob' }), nothing)
    await store.appendEvent({ type: 'a', sandboxId: ann.id, data: { n: 1 } })
    await store.appendEvent({ type: 'b', sandboxId: bob.id })
    const all = await store.events({ cursor: 0, limit: 100 })
    assert.deepEqual(
      all.map(({ type }) => type),
      ['sandbox.creating', 'sandbox.creating', 'a', 'b'],
    )
    assert.deepEqual(
      [...all].sort((x, y) => x.seq - y.seq),
      all,
    )
    const annEvents = await store.events({ owner: 'ann', cursor: all[0]?.seq ?? 0, limit: 100 })
    assert.deepEqual(
      annEvents.map(({ type, data }) => [type, data]),
      [['a', { n: 1 }]],
    )
  })

  check('events are forgotten by age and by number, and whose cursor lies before them can tell', async ({ store, reopen }) => {
    const ann = await store.insert(sample(), nothing)
    const bob = await store.insert(sample({ owner: 'bob' }), nothing)
    for (const type of ['a', 'b', 'c']) await store.appendEvent({ type, sandboxId: ann.id })
    const types = async (owner: string) => (await store.events({ owner, cursor: 0, limit: 10 })).map(({ type }) => type)
    const due = { eventsBefore: 0, endedBefore: 0, eventsPerOwner: 2 }
    assert.equal(await store.forgottenUpTo(undefined), 0)
    assert.equal(await store.forget(due), 2)
    assert.equal(await store.forget(due), 0)
    assert.deepEqual([await types('ann'), await types('bob')], [['b', 'c'], ['sandbox.creating']])
    const first = (await store.events({ owner: 'ann', cursor: 0, limit: 1 }))[0]?.seq ?? 0
    assert.deepEqual([await store.forgottenUpTo('ann'), await store.forgottenUpTo('bob')], [first - 1, 0])
    assert.equal(await store.forget({ ...due, eventsBefore: Date.now() + 1000 }), 3)
    await store.appendEvent({ type: 'd', sandboxId: bob.id })
    const again = await reopen()
    assert.deepEqual(
      (await again.events({ cursor: 0, limit: 10 })).map(({ type }) => type),
      ['d'],
    )
    assert.equal(await again.forgottenUpTo(undefined), first + 1)
  })

  check('what ended is forgotten with its provision and key, and nothing that lives is', async ({ store }) => {
    const ended = await store.insert(sample(), nothing, { key: 'k', fingerprint: 'f' })
    const alive = await store.insert(sample(), nothing, { key: 'l', fingerprint: 'f' })
    await store.move(ended, 'ended', { end: { reason: 'deleted' } }, { type: 'sandbox.deleted', sandboxId: ended.id })
    const due = { eventsBefore: 0, eventsPerOwner: 100, endedBefore: 0 }
    assert.equal(await store.forget({ ...due, endedBefore: Date.now() - 10_000 }), 0)
    assert.equal(await store.forget({ ...due, endedBefore: Date.now() + 10_000 }), 1)
    assert.deepEqual(
      [await store.get(ended.id), await store.provision(ended.callId), await store.findIdempotent('ann', 'k')],
      [undefined, undefined, undefined],
    )
    assert.equal((await store.get(alive.id))?.id, alive.id)
    assert.equal((await store.provision(alive.callId))?.phase, 'queued')
    assert.equal((await store.findIdempotent('ann', 'l'))?.sandboxId, alive.id)
  })

  check('a listener hears of each event after it can be read', async ({ store }) => {
    const heard: number[] = []
    const forget = store.onEvent(() => {
      store.events({ cursor: 0, limit: 100 }).then((events) => heard.push(events.length), assert.fail)
    })
    const inserted = await store.insert(sample(), nothing)
    await store.appendEvent({ type: 'a', sandboxId: inserted.id })
    await new Promise(setImmediate)
    forget()
    await store.appendEvent({ type: 'b', sandboxId: inserted.id })
    await new Promise(setImmediate)
    assert.deepEqual(heard, [1, 2])
  })

  check('activity never goes back in time', async ({ store }) => {
    const inserted = await store.insert(sample(), nothing)
    await store.touch(inserted.id, 5000)
    await store.touch(inserted.id, 4000)
    assert.equal((await store.get(inserted.id))?.lastActivityAt, 5000)
  })

  check('a check shows that it can be written', ({ store }) => store.check())
}
