// What every runtime keeps, as one suite. A runtime's own test calls `runtimeContract` and adds only what is peculiar to it.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { commandCases } from './contract/commands.contract.ts'
import { filesAndPortsCases } from './contract/files-and-ports.contract.ts'
import { isolationCases } from './contract/isolation.contract.ts'
import { lifecycleCases } from './contract/lifecycle.contract.ts'
import { limitCases } from './contract/limits.contract.ts'
import { pauseCases } from './contract/pause.contract.ts'
import { canaryName, type Opened, Subject } from './contract/subject.ts'

export type { Opened } from './contract/subject.ts'

/** Registers the suite. `open` is called once; where the probe finds the runtime unavailable the suite fails with its reason. */
export function runtimeContract(name: string, open: () => Promise<Opened>): void {
  describe(`the ${name} runtime`, () => {
    let subject: Subject | undefined
    const get = (): Subject => {
      assert.ok(subject, `the ${name} runtime could not be opened`)
      return subject
    }

    before(async () => {
      process.env[canaryName] ??= randomBytes(16).toString('hex')
      const opened = await open()
      const probe = await opened.runtime.probe(AbortSignal.timeout(60_000))
      subject = new Subject(name, opened, probe)
      assert.ok(probe.available, `${name} is not available: ${probe.reason}`)
    })
    after(() => subject?.close())

    test('its probe says what it is, how strong its wall is and which limits hold', () => {
      const { probe } = get()
      assert.ok(probe.version)
      assert.ok(probe.isolation.length > 20)
      for (const limit of ['memory', 'cpu', 'pids', 'disk'] as const) {
        const claim = probe.limits[limit]
        assert.ok(claim === true || claim.length > 0)
      }
    })

    test('its probe leaves nothing behind', async () => {
      assert.deepEqual(await get().runtime.list(), [])
    })

    test('it answers a ping with no complaint', async () => {
      assert.equal(await get().runtime.ping(AbortSignal.timeout(10_000)), undefined)
    })

    commandCases(get)
    isolationCases(get)
    filesAndPortsCases(get)
    limitCases(get)
    lifecycleCases(get)
    pauseCases(get)
  })
}
