// What an image sets for its processes is there for the user's, and not for the sidecar.
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { planOf } from '../../sandboxes/contract/subject.ts'
import type { Runtime } from '../../sandboxes/runtime.ts'
import { containerName } from './container.ts'
import { archiveOf, engine, openMachine, type TestMachine } from './testing/machine.ts'
import { contextOf, sh } from './testing/sandbox.ts'

describe('the variables of an image', () => {
  let machine: TestMachine
  let runtime: Runtime
  let image: string

  before(async () => {
    machine = await openMachine()
    runtime = machine.open()
    const tool = archiveOf((root) => {
      mkdirSync(join(root, 'opt/tool'), { recursive: true })
      writeFileSync(join(root, 'opt/tool/tool-of-image'), '#!/bin/sh\necho found\n')
      chmodSync(join(root, 'opt/tool/tool-of-image'), 0o755)
    })
    image = await machine.deriveImage('variables', tool, [
      'ENV JAVA_HOME=/opt/java',
      'ENV NODE_OPTIONS=--no-such-option',
      'ENV PATH=/opt/tool:/usr/local/bin:/usr/bin:/bin',
      'ENV HOME=/root',
    ])
  })
  after(async () => {
    await runtime.close()
    await machine.close()
  })

  const question = 'tool-of-image; echo "$JAVA_HOME $NODE_OPTIONS $HOME"; echo x > /dev/stderr'
  const answer = 'found\n/opt/java --no-such-option /home/agent'

  test('reach the processes of the user, also after a stop, and none of them reaches the sidecar', async () => {
    const plan = planOf({ image })
    assert.equal(await sh(await runtime.start(plan, contextOf()), question), answer)
    await runtime.stop(plan.id)
    assert.equal(await sh(await runtime.resume(plan, contextOf()), question), answer)
    const { Config } = await engine.getContainer(containerName(plan.id)).inspect()
    assert.ok(!JSON.stringify(Config.Env).includes('JAVA_HOME='))
    await runtime.remove(plan.id)
    assert.deepEqual(await machine.leftovers(plan.id), [])
  })

  test('reach them also in a container that was made again', async () => {
    const plan = planOf({ image })
    await runtime.start(plan, contextOf())
    await engine.getContainer(containerName(plan.id)).remove({ force: true, v: true })
    assert.equal(await sh(await runtime.resume(plan, contextOf()), question), answer)
    await runtime.remove(plan.id)
    assert.deepEqual(await machine.leftovers(plan.id), [])
  })

  test('of one sandbox are not those of another', async () => {
    const plan = planOf()
    const running = await runtime.start(plan, contextOf())
    assert.equal(await sh(running, 'echo "[$JAVA_HOME$NODE_OPTIONS]"'), '[]')
    await runtime.remove(plan.id)
  })
})
