// How creations and operations wait for one another.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CreationQueue } from './creation-queue.ts'
import { Locks } from './locks.ts'

test('no more creations run at once than may, and the others follow in order', async () => {
  const queue = new CreationQueue({ parallel: 2, waiting: 10 })
  const started: number[] = []
  let running = 0
  const gates = [0, 1, 2, 3].map(() => Promise.withResolvers<void>())
  const runs = gates.map((gate, index) =>
    queue.run(async () => {
      started.push(index)
      running += 1
      assert.ok(running <= 2)
      await gate.promise
      running -= 1
    }),
  )
  await new Promise(setImmediate)
  assert.deepEqual(started, [0, 1])
  for (const gate of gates) gate.resolve()
  await Promise.all(runs)
  assert.deepEqual(started, [0, 1, 2, 3])
})

test('a creation that would wait behind too many is refused at once', async () => {
  const queue = new CreationQueue({ parallel: 1, waiting: 1 })
  const gate = Promise.withResolvers<void>()
  const runs = [queue.run(() => gate.promise), queue.run(() => gate.promise)]
  assert.throws(() => queue.assertRoom(), { code: 'capacity.queue_full', status: 503 })
  gate.resolve()
  await Promise.all(runs)
  queue.assertRoom()
})

test('a creation that fails makes room for the next', async () => {
  const queue = new CreationQueue({ parallel: 1, waiting: 1 })
  await assert.rejects(queue.run(() => Promise.reject(new Error('no'))))
  assert.equal(await queue.run(async () => 'next'), 'next')
})

test('operations on one key follow one another, those on others do not wait', async () => {
  const locks = new Locks()
  const log: string[] = []
  const gate = Promise.withResolvers<void>()
  const first = locks.run('a', async () => {
    log.push('a1')
    await gate.promise
    log.push('a1 done')
  })
  const second = locks.run('a', async () => void log.push('a2'))
  await locks.run('b', async () => void log.push('b'))
  assert.deepEqual(log, ['a1', 'b'])
  gate.resolve()
  await Promise.all([first, second])
  assert.deepEqual(log, ['a1', 'b', 'a1 done', 'a2'])
})

test('an operation that throws lets the next one in', async () => {
  const locks = new Locks()
  await assert.rejects(locks.run('a', () => Promise.reject(new Error('no'))))
  assert.equal(await locks.run('a', async () => 1), 1)
})
