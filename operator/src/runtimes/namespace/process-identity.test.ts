import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { childrenOf, isAlive, processIdentity, signalProcess } from './process-identity.ts'

test('a process is told apart from another one of the same number, and from a dead one', async () => {
  const child = spawn('sleep', ['60'])
  await once(child, 'spawn')
  const identity = processIdentity(child.pid ?? 0)
  assert.ok(isAlive(identity))
  assert.ok(childrenOf(process.pid).includes(identity.pid))
  const namesake = { ...identity, startTime: '1' }
  assert.equal(isAlive(namesake), false)
  assert.equal(isAlive({ ...identity, boot: 'an earlier one' }), false)
  signalProcess(namesake, 'SIGKILL')
  assert.ok(isAlive(identity))
  signalProcess(identity, 'SIGKILL')
  await once(child, 'exit')
  assert.equal(isAlive(identity), false)
  signalProcess(identity, 'SIGKILL')
  assert.throws(() => processIdentity(identity.pid), /has ended/)
})
