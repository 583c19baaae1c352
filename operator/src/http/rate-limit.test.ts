import assert from 'node:assert/strict'
import { test } from 'node:test'
import { authRoutes, Failure, type RateTier } from '@atoll/protocol'
import type { Caller } from '../auth/caller.ts'
import { RateLimiter, type RateLimitOptions } from './rate-limit.ts'

function limiter(options: RateLimitOptions = {}) {
  let time = 1_700_000_000_250
  const limits = new RateLimiter({ ...options, now: () => time })
  const advance = (ms: number): void => {
    time += ms
  }
  return { limits, advance }
}

const routeOf = (tier: RateTier) => ({ method: 'GET', path: '/x', tier }) as const
const session = (owner: string): Caller => ({ owner, scope: 'owner', via: 'session', id: `session-${owner}` })
const key = (id: string): Caller => ({ owner: 'alice', scope: 'owner', via: 'key', id })

/** How many of `tries` calls are let through. */
function passed(tries: number, call: () => void): number {
  let count = 0
  for (let index = 0; index < tries; index += 1) {
    try {
      call()
      count += 1
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'request.rate_limited') throw error
    }
  }
  return count
}

test('each tier has its own budget for each client address', () => {
  const { limits } = limiter()
  const expected = [
    ['read', 120],
    ['write', 30],
    ['interactive', 2400],
    ['auth', 10],
  ] as const
  for (const [tier, budget] of expected) {
    for (const client of ['192.0.2.1', '192.0.2.2']) {
      assert.equal(
        passed(budget + 5, () => limits.count({ route: routeOf(tier), client, caller: undefined })),
        budget,
        tier,
      )
    }
  }
})

test('wallet sessions share the budget of their address, and a session on another address has another', () => {
  const { limits } = limiter()
  const write = (client: string, owner: string) => () => limits.count({ route: routeOf('write'), client, caller: session(owner) })
  assert.equal(passed(40, write('192.0.2.1', 'alice')), 30)
  assert.equal(passed(40, write('192.0.2.1', 'bob')), 0)
  assert.equal(passed(40, write('192.0.2.2', 'alice')), 30)
})

test('an API key has a budget of its own, wherever it is used', () => {
  const { limits } = limiter({ perMinute: { key: 200 } })
  const call = (id: string, client: string) => () => limits.count({ route: routeOf('write'), client, caller: key(id) })
  assert.equal(passed(150, call('one', '192.0.2.1')), 150)
  assert.equal(passed(150, call('one', '192.0.2.2')), 50)
  assert.equal(passed(150, call('two', '192.0.2.1')), 150)
  assert.equal(
    passed(1, () => limits.count({ route: routeOf('write'), client: '192.0.2.1', caller: undefined })),
    1,
  )
})

test('the two requests of a sign-in count once', () => {
  const { limits } = limiter()
  const signIn = (): void => {
    limits.count({ route: authRoutes.challenge, client: '192.0.2.1', caller: undefined })
    limits.count({ route: authRoutes.session, client: '192.0.2.1', caller: undefined })
  }
  assert.equal(passed(12, signIn), 10)
})

test('requests to ports count per key, per owner, and without a caller per address', () => {
  const { limits } = limiter({ perMinute: { proxy: 5 } })
  const callers = [undefined, session('alice'), session('bob'), key('one')]
  for (const caller of callers) {
    assert.equal(
      passed(9, () => limits.countProxied({ client: '192.0.2.1', caller })),
      5,
    )
  }
  assert.equal(
    passed(9, () => limits.countProxied({ client: '192.0.2.2', caller: session('alice') })),
    0,
  )
})

test('a refusal says when the next call will be let through, and that is true', () => {
  const { limits, advance } = limiter({ perMinute: { write: 2 } })
  const call = (): void => limits.count({ route: routeOf('write'), client: 'c', caller: undefined })
  call()
  advance(20_000)
  call()
  const refusal = (): Failure => {
    try {
      call()
    } catch (error) {
      if (error instanceof Failure) return error
    }
    return assert.fail('the call was let through')
  }
  const first = refusal()
  assert.equal(first.status, 429)
  assert.deepEqual(first.toJSON(), { error: 'Rate limit exceeded', code: 'request.rate_limited', retry_after_ms: first.retryAfterMs })
  const wait = first.retryAfterMs ?? 0
  assert.ok(wait >= 40_000 && wait <= 41_000, `${wait}`)
  advance(wait - 1)
  assert.equal(refusal().retryAfterMs, 1)
  advance(1)
  call()
  assert.ok((refusal().retryAfterMs ?? 0) > 18_000)
})

test('no minute, wherever it begins, has more calls than the limit', () => {
  const { limits, advance } = limiter({ perMinute: { read: 7 } })
  const times: number[] = []
  let time = 0
  // A fixed sequence of uneven steps.
  for (let index = 0; index < 4000; index += 1) {
    const step = (index * 7919) % 1733
    advance(step)
    time += step
    if (passed(1, () => limits.count({ route: routeOf('read'), client: 'c', caller: undefined })) === 1) times.push(time)
  }
  assert.ok(times.length > 300)
  for (const [index, at] of times.entries()) {
    const next = times[index + 7]
    if (next !== undefined) assert.ok(next - at >= 60_000, `8 calls within ${next - at} ms`)
  }
})

test('a clock that goes back lets nobody call more often', () => {
  const { limits, advance } = limiter({ perMinute: { read: 3 } })
  const call = (): void => limits.count({ route: routeOf('read'), client: 'c', caller: undefined })
  assert.equal(passed(5, call), 3)
  advance(-3_600_000)
  assert.equal(passed(5, call), 0)
})

test('callers of the last minute are remembered, and no more than the most that is set', () => {
  const { limits, advance } = limiter({ maxWindows: 100 })
  const call = (client: string): void => limits.count({ route: routeOf('auth'), client, caller: undefined })
  for (let index = 0; index < 5000; index += 1) {
    call(`client-${index}`)
    call('steady')
    assert.ok(limits.size <= 101)
    advance(15_000)
  }
  for (let index = 0; index < 5000; index += 1) call(`other-${index}`)
  assert.ok(limits.size <= 101)
  advance(120_000)
  call('late')
  assert.equal(limits.size, 1)
})

test('a crowd of new clients does not make the limiter forget one that keeps calling', () => {
  const { limits } = limiter({ maxWindows: 10, perMinute: { read: 20 } })
  const call = (client: string): void => limits.count({ route: routeOf('read'), client, caller: undefined })
  const steady = passed(40, () => {
    for (const other of ['a', 'b', 'c']) call(`${other}-${Math.random()}`)
    call('steady')
  })
  assert.equal(steady, 20)
})

test('the clock of the process serves when none is given', () => {
  const limits = new RateLimiter({ perMinute: { read: 3 } })
  assert.equal(
    passed(5, () => limits.count({ route: routeOf('read'), client: 'c', caller: undefined })),
    3,
  )
})

test('every refusal is told to the metrics, and with the limits off there is none', () => {
  const refused: string[] = []
  const { limits } = limiter({ perMinute: { read: 1 }, onRefused: (limit) => refused.push(limit) })
  passed(4, () => limits.count({ route: routeOf('read'), client: 'c', caller: undefined }))
  assert.deepEqual(refused, ['read', 'read', 'read'])
  const { limits: off } = limiter({ off: true })
  assert.equal(
    passed(1000, () => off.count({ route: routeOf('auth'), client: 'c', caller: undefined })),
    1000,
  )
  assert.equal(off.size, 0)
})
