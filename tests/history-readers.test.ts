// How many processes read histories, and for how long; with real ones, over folders that are made here.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, type TestContext, test } from 'node:test'
import { Failure } from '@atoll/protocol'
import { HistoryReaders } from '../operator/src/guest-channel/history-readers.ts'
import { openHttpGuest } from '../operator/src/guest-channel/http-guest.ts'
import { bundle } from '../sidecar/scripts/bundle.ts'

const folder = mkdtempSync(path.join(tmpdir(), 'atoll-history-'))
after(() => rmSync(folder, { recursive: true, force: true }))

/** Of a sandbox with one conversation, which has the sandbox's name. */
function makeFolder(id: string): void {
  const session = path.join(folder, 'state/sandboxes', id, 'sidecar/agents/0123456789abcdef')
  mkdirSync(session, { recursive: true })
  const document = { id: '0123456789abcdef', title: id, harness: 'echo', native_session_id: null, created_at: 1 }
  writeFileSync(path.join(session, 'session.json'), JSON.stringify(document))
}

async function open(t: TestContext): Promise<HistoryReaders> {
  const readers = new HistoryReaders({
    programDir: await bundle(),
    stateDir: path.join(folder, 'state'),
    runDir: path.join(folder, 'run'),
    openGuest: openHttpGuest,
    log: { warn: () => undefined },
  })
  t.after(() => readers.closeAll())
  return readers
}

type Reading = Awaited<ReturnType<HistoryReaders['open']>>
const titleOf = async ({ guest }: Reading): Promise<string | undefined> =>
  (await guest.call<{ sessions: { title: string }[] }>({ method: 'GET', path: '/agents/sessions' })).sessions[0]?.title
const sockets = (): string[] => readdirSync(path.join(folder, 'run/history'))
const refusedWith = (code: string) => (error: unknown) => error instanceof Failure && error.code === code

test('eight are read at once: who reads nothing makes room, and when all read the next is refused', async (t) => {
  const ids = Array.from({ length: 10 }, (_, index) => `sandbox-${index}`)
  for (const id of ids) makeFolder(id)
  const readers = await open(t)
  const [ninth = '', tenth = '', ...eight] = ids
  ;(await readers.open(tenth, 1)).release()
  const held = await Promise.all(eight.map((id) => readers.open(id, 1)))
  assert.deepEqual(await Promise.all(held.map(titleOf)), eight)
  await assert.rejects(readers.open(ninth, 1), refusedWith('request.busy'))
  held[3]?.release()
  const reading = await readers.open(ninth, 1)
  assert.equal(await titleOf(reading), ninth)
  assert.equal(sockets().length, 8)
  await readers.closeAll()
  assert.deepEqual(sockets(), [])
})

test('all who read one at once share a process; after a change of the sandbox another one begins, and who is at it may finish', async (t) => {
  makeFolder('changed')
  const readers = await open(t)
  const [first, same] = await Promise.all([readers.open('changed', 1), readers.open('changed', 1)])
  assert.deepEqual([await titleOf(first), await titleOf(same), sockets().length], ['changed', 'changed', 1])
  rmSync(path.join(folder, 'state/sandboxes/changed'), { recursive: true })
  readers.close('changed')
  assert.equal(await titleOf(first), 'changed', 'it has read all of it before')
  await assert.rejects(readers.open('changed', 2), refusedWith('agent.history_unreadable'))
  makeFolder('changed')
  const next = await readers.open('changed', 3)
  assert.equal(sockets().length, 2)
  assert.equal(await titleOf(next), 'changed')
  await readers.closeAll()
  assert.deepEqual(sockets(), [])
})
