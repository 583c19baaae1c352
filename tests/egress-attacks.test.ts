// Every way out that is none: what is tried is refused, nobody is reached by it, and the owner is told.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { EgressPolicyInput } from '@atoll/protocol'
import { addressAttacks, attackNames } from './egress/attacks/addresses.ts'
import type { Attack } from './egress/attacks/attack.ts'
import { framedRules, framingAttacks } from './egress/attacks/framing.ts'
import { attackedRules, ruleAttacks } from './egress/attacks/rules.ts'
import { inOwnNetwork } from './egress/own-network.ts'
import { EgressSubject } from './egress/subject.ts'
import type { Reached } from './egress/world.ts'

let subject: EgressSubject

/** The hosts whose requests are looked into: the gateway has TLS with them before it knows the request. */
const isMeant = ({ name, path }: Reached): boolean =>
  path === '/f' || (path === undefined && /^(get|repo|post|false)\.example\.com$/.test(name))

/** Tries one after the other against a sandbox of their own. */
function tryAll(kind: string, policy: EgressPolicyInput, attacks: readonly Attack[]): void {
  test(`${kind}: all of ${attacks.length} attacks fail`, async (context) => {
    const sandbox = await subject.newSandbox()
    await subject.allow(policy, sandbox)
    assert.equal(new Set(attacks.map(({ name }) => name)).size, attacks.length, 'each has a name of its own')
    for (const attack of attacks) await context.test(attack.name, () => tryOne(attack, sandbox))
  })
}

async function tryOne({ event, status, run }: Attack, sandbox: string): Promise<void> {
  const cursor = await subject.cursor(sandbox)
  await subject.world.reached()
  const outcome = await run(subject, sandbox)
  assert.ok(status.includes(outcome.status), `answered ${outcome.status}`)
  if (outcome.status === 403) assert.equal(outcome.denied, event)
  const reasons = (await subject.denials(cursor, sandbox)).map(({ reason }) => reason)
  assert.deepEqual(reasons, event === undefined ? [] : [event])
  const reached = await subject.world.reached()
  assert.deepEqual(
    reached.filter((one) => !isMeant(one)),
    [],
    'nobody else is reached',
  )
}

await inOwnNetwork(import.meta.filename, () => {
  before(async () => {
    subject = await EgressSubject.start('namespace', attackNames)
  })

  after(async () => {
    await subject?.[Symbol.asyncDispose]()
  })

  tryAll('addresses and names', { mode: 'internet' }, addressAttacks)
  tryAll('rules', attackedRules, ruleAttacks)
  tryAll('frames', framedRules, framingAttacks)

  test('a sandbox has no other way out: no route, no name, and no port of this machine but its own', async () => {
    await subject.allow({ mode: 'internet' })
    await subject.world.reached()
    const ways = [
      'curl -sS --noproxy "*" --max-time 3 http://93.184.216.34/',
      'curl -sS --noproxy "*" --max-time 3 http://any.example.com/',
      'curl -sS --noproxy "*" --max-time 3 http://44.10.0.1/',
      'curl -sS --noproxy "*" --max-time 3 "http://[2606:4700::1111]/"',
      'curl -sS --noproxy "*" --max-time 3 http://127.0.0.1:9090/',
      'getent hosts any.example.com',
      'curl -sS --unix-socket /run/atoll/gateway.sock --max-time 3 http://any.example.com/',
    ]
    for (const way of ways) assert.notEqual((await subject.run(way)).code, 0, way)
    assert.deepEqual(await subject.world.reached(), [])
  })
})
