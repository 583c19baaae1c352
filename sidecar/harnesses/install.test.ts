// Installing from npm: only what was pinned, all or nothing, nothing twice.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readlinkSync, rmSync, statSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { install } from './install.ts'
import { fetchTarball } from './tarball.ts'
import { harnessParts } from './versions.ts'

const main = path.join(import.meta.dirname, 'main.ts')
/** Small ones, of the pinned. */
const small = harnessParts.flatMap(({ packages }) => packages).find(({ name }) => name === 'dijkstrajs')
assert.ok(small)

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'harness-install-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

test('a package with another hash than the pinned one is refused, and not kept', async () => {
  const integrity = small.integrity.replace(/^sha512-./, (start) => (start.endsWith('A') ? 'sha512-B' : 'sha512-A'))
  await assert.rejects(fetchTarball({ ...small, integrity }, folder), /is not what was pinned/)
  assert.deepEqual(readdirSync(folder), [])
})

test('a tarball that was changed on disk is fetched anew', async () => {
  const file = await fetchTarball(small, folder)
  const { size } = statSync(file)
  rmSync(file)
  await once(spawn('sh', ['-c', `echo other > '${file}'`]), 'exit')
  assert.equal(statSync(await fetchTarball(small, folder)).size, size)
})

test('a package that does not exist is named', async () => {
  await assert.rejects(fetchTarball({ ...small, version: '0.0.0-none' }, folder), /npm could not fetch dijkstrajs@0\.0\.0-none/)
})

test('a harness has its command, what it needs and its proof; a second time nothing is fetched', { timeout: 300_000 }, async () => {
  const lines: string[] = []
  const options = { ids: ['kimi-code'], folder, onProgress: (line: string) => lines.push(line) }
  await install(options)
  assert.deepEqual(readdirSync(path.join(folder, 'bin')).sort(), ['blueprint-verify-harnesses', 'kimi', 'node'])
  assert.equal(readlinkSync(path.join(folder, 'bin/node')), '../node/bin/node')
  assert.deepEqual(readdirSync(folder).sort(), ['bin', 'claims.json', 'kimi-code', 'node', 'verify'])
  lines.length = 0
  const again = await install(options)
  assert.deepEqual(
    again.map(({ id, wasThere }) => [id, wasThere]),
    [
      ['node', true],
      ['kimi-code', true],
    ],
  )
  assert.ok(lines.every((line) => !line.includes('fetching')))
  // The proof is run by another user.
  await once(spawn('chmod', ['755', folder]), 'exit')
  assert.deepEqual(await once(spawn(path.join(folder, 'bin/blueprint-verify-harnesses'), ['kimi-code']), 'exit'), [0, null])
})

const drafts = (): string[] => readdirSync(folder).filter((name) => name.startsWith('.draft-'))

/** An installation that has begun to fetch. */
async function begin(): Promise<ChildProcess> {
  const before = drafts()
  const child = spawn(process.execPath, [main, 'install', 'codex', '--folder', folder], { stdio: ['ignore', 'ignore', 'inherit'] })
  while (drafts().every((name) => before.includes(name))) await delay(2)
  return child
}

for (const [signal, leftovers] of [
  ['SIGTERM', 0],
  ['SIGKILL', 1],
] as const) {
  test(`an installation ended by ${signal} leaves nothing that looks installed`, { timeout: 60_000 }, async () => {
    const child = await begin()
    child.kill(signal)
    await once(child, 'exit')
    assert.equal(drafts().length, leftovers)
    assert.deepEqual(
      readdirSync(folder).filter((name) => !name.startsWith('.draft-')),
      [],
    )
    // The next one takes away what this one could not.
    const next = await begin()
    assert.deepEqual(
      drafts().filter((name) => name.startsWith(`.draft-${child.pid}-`)),
      [],
    )
    next.kill('SIGTERM')
    await once(next, 'exit')
  })
}
