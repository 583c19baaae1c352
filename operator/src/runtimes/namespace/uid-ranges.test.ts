import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { lastBase, rangeSize, UidRanges } from './uid-ranges.ts'

describe('ranges of host user ids', () => {
  let directory: string
  let table: string
  let sandboxes: string
  const open = async (first?: number): Promise<UidRanges> => {
    const ranges = new UidRanges(table, sandboxes, first)
    await ranges.open(existsSync)
    return ranges
  }
  const folder = (id: string): string => {
    mkdirSync(join(sandboxes, id), { recursive: true })
    return join(sandboxes, id)
  }

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'atoll-ranges-'))
    table = join(directory, 'table')
    sandboxes = join(directory, 'sandboxes')
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  test('no two of many taken at once overlap, also from several operators', async () => {
    const [one, two] = [await open(), await open()]
    const taken = await Promise.all(Array.from({ length: 20 }, (_, index) => (index % 2 ? one : two).reserve()))
    const sorted = [...taken].sort((a, b) => a - b)
    for (const [index, base] of sorted.entries()) assert.ok(index === 0 || base - (sorted[index - 1] ?? 0) >= rangeSize)
  })

  test('a sandbox keeps its range over a restart, and loses it with its folder', async () => {
    const first = await open()
    const base = await first.reserve()
    await first.assign(base, folder('a'))
    await open()
    assert.deepEqual(readdirSync(table), [String(base)])
    rmSync(join(sandboxes, 'a'), { recursive: true })
    await open()
    assert.deepEqual(readdirSync(table), [])
  })

  test('a range that a dead process held in reserve is free, one of a living process is not', async () => {
    const ranges = await open()
    const base = await ranges.reserve()
    writeFileSync(join(table, String(base + rangeSize)), JSON.stringify({ reserve: { pid: 1, startTime: '0', boot: 'another' } }))
    await open()
    assert.deepEqual(readdirSync(table), [String(base)])
  })

  test('releasing frees only what belongs to that sandbox', async () => {
    const ranges = await open()
    const base = await ranges.reserve()
    await ranges.assign(base, folder('a'))
    await ranges.release(base, folder('b'))
    await ranges.freeReserved(base)
    assert.deepEqual(readdirSync(table), [String(base)])
    await ranges.release(base, folder('a'))
    await ranges.release(base, folder('a'))
    assert.deepEqual(readdirSync(table), [])
  })

  test('when all are taken, those whose folders are gone are taken over, and else the failure says so', async () => {
    const ranges = await open(lastBase)
    const base = await ranges.reserve()
    await ranges.assign(base, folder('a'))
    await assert.rejects(ranges.reserve(), { code: 'capacity.exhausted' })
    rmSync(join(sandboxes, 'a'), { recursive: true })
    assert.equal(await ranges.reserve(), base)
  })

  test('an entry that cannot be read stays taken', async () => {
    const ranges = await open(lastBase)
    const base = await ranges.reserve()
    writeFileSync(join(table, String(base)), 'cut o')
    await open()
    await assert.rejects(ranges.reserve(), { code: 'capacity.exhausted' })
  })
})
