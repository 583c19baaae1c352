import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Process } from '@atoll/protocol'
import { eventsOf, type SidecarProcess, type StreamEvent, startSidecarProcess, until } from './sidecar-process.ts'

let sidecar: SidecarProcess
before(async () => {
  sidecar = await startSidecarProcess()
})
after(() => sidecar[Symbol.asyncDispose]())

const start = (command: string, more: object = {}, on = sidecar): Promise<Process> => on.json('POST', '/processes', { command, ...more })

const bytesOf = (events: readonly StreamEvent[], type: string): Buffer =>
  Buffer.concat(
    events
      .filter(({ event }) => event === type)
      .map(({ data }) => (typeof data.text === 'string' ? Buffer.from(data.text) : Buffer.from(String(data.base64), 'base64'))),
  )

const residentBytes = (on: SidecarProcess): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${on.process.pid}/status`, 'utf8'))?.[1]) * 1024

test('a process is listed with its output numbered from 1, and its stream ends after the exit', async () => {
  const process = await start('echo one; sleep 0.1; echo two >&2; exit 4')
  const events = await sidecar.allEvents(`/processes/${process.id}/events`)
  assert.deepEqual(
    events.map(({ id, event }) => [id, event]),
    [
      [1, 'stdout'],
      [2, 'stderr'],
      [3, 'exit'],
    ],
  )
  assert.deepEqual(events.at(-1)?.data.exit, { type: 'exited', code: 4 })
  const listed = await sidecar.json<{ processes: Process[] }>('GET', '/processes')
  const view = listed.processes.find(({ id }) => id === process.id)
  assert.deepEqual([view?.exit, view?.first_seq, view?.last_seq], [{ type: 'exited', code: 4 }, 1, 3])
})

test('a reader that comes back with its cursor loses and repeats nothing, by query or by header', async () => {
  const { id } = await start('for i in 1 2 3 4 5 6; do echo $i; sleep 0.05; done')
  const first: StreamEvent[] = []
  for await (const event of await sidecar.events(`/processes/${id}/events`)) {
    first.push(event)
    if (first.length === 2) break
  }
  const cursor = first.at(-1)?.id ?? 0
  const byQuery = await sidecar.allEvents(`/processes/${id}/events?cursor=${cursor}`)
  const byHeader = await sidecar.allEvents(`/processes/${id}/events`, { 'last-event-id': String(cursor) })
  assert.deepEqual(byQuery, byHeader)
  assert.equal(bytesOf([...first, ...byQuery], 'stdout').toString(), '1\n2\n3\n4\n5\n6\n')
})

test('a character that comes in two halves stays whole, and bytes that are none arrive as they were', async () => {
  const { id } = await start(String.raw`printf '\342\202'; sleep 0.02; printf '\254'; sleep 0.02; printf '\377\000\376' >&2`)
  const events = await sidecar.allEvents(`/processes/${id}/events`)
  assert.equal(events.find(({ event }) => event === 'stdout')?.data.text, '€')
  assert.deepEqual(bytesOf(events, 'stderr'), Buffer.from([0xff, 0x00, 0xfe]))
})

test('half a character that nothing follows is not held back for ever', async () => {
  const { id } = await start(String.raw`printf '\342\202'; cat`, { stdin: 'open' })
  for await (const { data } of await sidecar.events(`/processes/${id}/events`)) {
    assert.equal(data.base64, Buffer.from([0xe2, 0x82]).toString('base64'))
    break
  }
  await sidecar.call('DELETE', `/processes/${id}`)
})

test('standard input is written in pieces until it is closed, and refused afterwards', async () => {
  const { id } = await start('cat; echo end', { stdin: 'open' })
  assert.deepEqual(await sidecar.json('POST', `/processes/${id}/stdin`, 'one '), { bytes: 4 })
  assert.deepEqual(await sidecar.json('POST', `/processes/${id}/stdin?close=true`, 'two\n'), { bytes: 4 })
  const events = await sidecar.allEvents(`/processes/${id}/events`)
  assert.equal(bytesOf(events, 'stdout').toString(), 'one two\nend\n')
  assert.equal((await sidecar.call('POST', `/processes/${id}/stdin`, { body: 'x' })).status, 409)
})

test('a signal reaches the whole group', async () => {
  const { id } = await start(
    `sh -c 'trap "echo inner; exit" USR1; while :; do sleep 0.05; done' & trap 'wait; exit 9' USR1; echo ready; wait; wait`,
  )
  const events: StreamEvent[] = []
  for await (const event of await sidecar.events(`/processes/${id}/events`)) {
    events.push(event)
    if (event.data.text === 'ready\n') {
      await delay(200)
      assert.deepEqual(await sidecar.json('POST', `/processes/${id}/signal`, { signal: 'SIGUSR1' }), { success: true })
    }
  }
  assert.match(bytesOf(events, 'stdout').toString(), /inner/)
  assert.equal((await sidecar.call('POST', `/processes/${id}/signal`, { body: {} })).status, 409)
})

test('a time-out ends a process, and its exit says so', async () => {
  const { id } = await start('sleep 60', { timeout_ms: 100 })
  const [exit] = await sidecar.allEvents(`/processes/${id}/events`)
  assert.deepEqual([exit?.data.timed_out, exit?.data.exit], [true, { type: 'signalled', signal: 'SIGTERM' }])
})

test('a program that does not exist has output and an exit like any other', async () => {
  const { id, pid } = await sidecar.json<Process>('POST', '/processes', { argv: ['no-such-program'] })
  assert.equal(pid, null)
  const events = await sidecar.allEvents(`/processes/${id}/events`)
  assert.deepEqual(events.at(-1)?.data.exit, { type: 'exited', code: 127 })
})

test('removing a process kills its group, ends its streams and forgets it', async () => {
  const { id } = await start('sleep 60 & sleep 60')
  const stream = await sidecar.open('GET', `/processes/${id}/events`)
  const broken = once(stream, 'error')
  stream.resume()
  assert.deepEqual(await sidecar.json('DELETE', `/processes/${id}`), { deleted: true })
  await broken
  assert.equal((await sidecar.call('GET', `/processes/${id}`)).status, 404)
})

test('of ended processes only the latest are kept', async () => {
  await using small = await startSidecarProcess({ env: { ATOLL_KEPT_PROCESSES: '2' } })
  const ids: string[] = []
  for (const code of [1, 2, 3]) {
    const { id } = await start(`exit ${code}`, {}, small)
    await small.allEvents(`/processes/${id}/events`)
    ids.push(id)
  }
  await start('exit 4', {}, small)
  await until('the oldest is forgotten', async () => (await small.call('GET', `/processes/${ids[0]}`)).status === 404)
  assert.equal((await small.call('GET', `/processes/${ids[2]}`)).status, 200)
})

test('a grandchild that keeps the pipes open does not keep the process from ending', async () => {
  const { id } = await start('echo x; yes & exit 5')
  const events = await sidecar.allEvents(`/processes/${id}/events`)
  assert.deepEqual(events.at(-1)?.data.exit, { type: 'exited', code: 5 })
  await sidecar.exec('pkill -x yes')
})

test('a reader that comes late finds the newest output, with the gap named', async () => {
  await using small = await startSidecarProcess({ env: { ATOLL_PROCESS_LOG_BYTES: '1000000' } })
  const { id } = await start('head -c 5000000 /dev/zero | tr "\\0" x', {}, small)
  await until('it has ended', async () => (await small.json<Process>('GET', `/processes/${id}`)).exit !== null)
  const view = await small.json<Process>('GET', `/processes/${id}`)
  const events = await small.allEvents(`/processes/${id}/events`)
  const [gap, next] = events
  assert.deepEqual(gap?.data, { type: 'gap', from: 1, to: view.first_seq - 1 })
  assert.equal(next?.id, view.first_seq)
  assert.equal(events.length, view.last_seq - view.first_seq + 2)
  const kept = bytesOf(events, 'stdout').length
  assert.ok(kept > 500_000 && kept < 1_100_000, `${kept} bytes are kept`)
})

test('all logs together keep to their limit', async () => {
  await using small = await startSidecarProcess({ env: { ATOLL_ALL_LOGS_BYTES: '3000000', ATOLL_PROCESS_LOG_BYTES: '2000000' } })
  const ids: string[] = []
  for (let count = 0; count < 3; count++) {
    const { id } = await start('head -c 1900000 /dev/zero | tr "\\0" x', {}, small)
    await until('it has ended', async () => (await small.json<Process>('GET', `/processes/${id}`)).exit !== null)
    ids.push(id)
  }
  const sizes = await Promise.all(ids.map(async (id) => bytesOf(await small.allEvents(`/processes/${id}/events`), 'stdout').length))
  assert.equal(sizes[2], 1_900_000)
  assert.ok(sizes.reduce((sum, size) => sum + size, 0) < 3_300_000, `${sizes} bytes are kept`)
  assert.deepEqual(readdirSync(path.join(small.folder, 'state/processes')), [])
})

/** What one of the sidecar's descriptors takes on disk, when it is a file of its own without a name. */
function nameless(on: SidecarProcess, descriptor: string): number {
  try {
    const target = readlinkSync(descriptor, { encoding: 'utf8' })
    return target.startsWith(on.folder) && target.endsWith(' (deleted)') ? statSync(descriptor).size : 0
  } catch {
    // It was closed while it was looked at.
    return 0
  }
}

const diskBytes = (on: SidecarProcess): number => {
  const folder = `/proc/${on.process.pid}/fd`
  return readdirSync(folder).reduce((sum, name) => sum + nameless(on, path.join(folder, name)), 0)
}

/** Reads bytes of a known pattern, with a rest now and then, and tells how many there were. */
async function countSlowly(body: IncomingMessage): Promise<{ bytes: number; gaps: number }> {
  let bytes = 0
  let gaps = 0
  let nextRest = 100_000_000
  for await (const { event, data } of eventsOf(body)) {
    if (event === 'gap') gaps += 1
    if (typeof data.text !== 'string') continue
    bytes += data.text.length
    if (bytes < nextRest) continue
    nextRest += 200_000_000
    await delay(500)
  }
  return { bytes, gaps }
}

test('a spectator that reads nothing holds no process up, and is told of what it missed', async () => {
  await using small = await startSidecarProcess({ env: { ATOLL_PROCESS_LOG_BYTES: '2000000' } })
  const { id } = await start('sleep 0.5; seq 4000000', {}, small)
  const spectator = await small.open('GET', `/processes/${id}/events?spectator=true`)
  await until('it has ended', async () => (await small.json<Process>('GET', `/processes/${id}`)).exit !== null)
  const types = new Set<string>()
  for await (const { event } of eventsOf(spectator)) types.add(event)
  assert.deepEqual([...types].sort(), ['exit', 'gap', 'stdout'])
})

test('a slow reader gets all of 1 GiB while the memory and the log of the sidecar keep to their limits', { timeout: 300_000 }, async () => {
  await using small = await startSidecarProcess({ env: { ATOLL_PROCESS_LOG_BYTES: '8000000' } })
  const gibibyte = 1024 * 1024 * 1024
  const { id } = await start(`yes 0123456789abcde | head -c ${gibibyte}`, {}, small)
  const reading = countSlowly(await small.open('GET', `/processes/${id}/events`))
  let peak = 0
  let peakDisk = 0
  const watching = setInterval(() => {
    peakDisk = Math.max(peakDisk, diskBytes(small))
    peak = Math.max(peak, residentBytes(small))
  }, 100)
  const { bytes, gaps } = await reading.finally(() => clearInterval(watching))
  assert.deepEqual({ bytes, gaps }, { bytes: gibibyte, gaps: 0 })
  assert.ok(peakDisk > 4_000_000 && peakDisk < 12_000_000, `the log took ${peakDisk} bytes`)
  assert.ok(peak < 300 * 1024 * 1024, `the sidecar took ${Math.round(peak / 1024 / 1024)} MiB`)
})

test('a reader that takes nothing is disconnected and the process goes on', async () => {
  await using small = await startSidecarProcess({ env: { ATOLL_PROCESS_LOG_BYTES: '1000000', ATOLL_READER_STALL_MS: '300' } })
  const { id } = await start('head -c 20000000 /dev/zero | tr "\\0" x', {}, small)
  const stuck = await small.open('GET', `/processes/${id}/events`)
  stuck.on('error', () => undefined)
  await until('the process has ended', async () => (await small.json<Process>('GET', `/processes/${id}`)).exit !== null)
  stuck.destroy()
})

test('a silent stream is kept alive', async () => {
  await using quick = await startSidecarProcess({ env: { ATOLL_HEARTBEAT_MS: '50' } })
  const { id } = await start('sleep 60', {}, quick)
  const stream = await quick.open('GET', `/processes/${id}/events`)
  const [chunk] = await once(stream, 'data')
  assert.equal(String(chunk), ': keep-alive\n\n')
  stream.destroy()
})
