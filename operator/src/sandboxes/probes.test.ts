import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Probes } from './probes.ts'
import type { Probe } from './runtime.ts'

function openProbes(outcome: () => boolean) {
  let time = 1_700_000_000_000
  let count = 0
  const probe = async (): Promise<Probe> => {
    count += 1
    const available = outcome()
    const limits = { memory: true, cpu: true, pids: true, disk: true } as const
    return { available, ...(!available && { reason: 'broken' }), isolation: 'none', limits, features: [] }
  }
  const runtime = { name: 'namespace' as const, ping: async () => undefined, probe }
  const probes = new Probes({ runtimes: new Map([['namespace', runtime]]), defaultRuntime: 'namespace', now: () => time })
  return {
    probes,
    count: () => count,
    advance: (ms: number) => {
      time += ms
    },
  }
}

test('however often health is asked for, a runtime that does not work is probed once in ten seconds', async () => {
  let works = false
  const { probes, count, advance } = openProbes(() => works)
  for (let asked = 0; asked < 5; asked += 1) assert.equal(await probes.defaultRuntimeError(), 'broken')
  assert.equal(count(), 1)
  works = true
  advance(9_999)
  assert.equal(await probes.defaultRuntimeError(), 'broken')
  advance(1)
  assert.equal(await probes.defaultRuntimeError(), undefined)
  assert.equal(count(), 2)
})
