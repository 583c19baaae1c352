import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { after, before, test } from 'node:test'
import type { Terminal } from '@atoll/protocol'
import WebSocket from 'ws'
import { type SidecarProcess, type StreamEvent, startSidecarProcess, until } from './sidecar-process.ts'

let sidecar: SidecarProcess
before(async () => {
  sidecar = await startSidecarProcess()
})
after(() => sidecar[Symbol.asyncDispose]())

const open = (more: object = {}, on = sidecar): Promise<Terminal> => on.json('POST', '/terminals', more)
const type = (id: string, data: string, on = sidecar) => on.call('POST', `/terminals/${id}/input`, { body: { data } })

const textOf = (event: StreamEvent): string => {
  const { properties } = event.data
  return typeof properties === 'object' && properties !== null && 'text' in properties ? String(properties.text) : ''
}

/** Reads until the text has come; answers everything up to there and the last event's number. */
async function read(id: string, wanted: RegExp, { cursor, on = sidecar }: { cursor?: number; on?: SidecarProcess } = {}) {
  let text = ''
  for await (const event of await on.events(`/terminals/${id}/stream${cursor === undefined ? '' : `?cursor=${cursor}`}`)) {
    text += textOf(event)
    if (wanted.test(text)) return { text, last: event.id ?? 0 }
  }
  throw new Error(`The terminal ended without ${wanted}: ${text}`)
}

/** A shell that prints nothing but what it is told to. */
async function openQuiet(on = sidecar): Promise<string> {
  const { session_id: id } = await open({ env: {} }, on)
  await type(id, "PS1=; stty -echo; echo 'rea''dy'\n", on)
  await read(id, /^ready\r\n/m, { on })
  return id
}

test('a terminal is real: it has a name that the user may open, a size, and job control', async () => {
  const id = await openQuiet()
  await type(id, 'tty; stty size; id -u; id -G; echo owned > $(tty); sleep 9 & jobs; echo "te"rm=$TERM\n')
  const { text } = await read(id, /term=/)
  assert.match(text, /\/dev\/pts\/\d+\r\n24 80\r\n1000\r\n1000\r\nowned\r\n/)
  assert.match(text, /\[1\].*Running/)
  assert.match(text, /term=xterm-256color/)
  await sidecar.call('DELETE', `/terminals/${id}`)
})

test('no terminal of others is open in a command, in the worker for files, or in a later terminal', async () => {
  await using fresh = await startSidecarProcess()
  const first = await openQuiet(fresh)
  await openQuiet(fresh)
  const masters = (pid: string | number): string[] =>
    readdirSync(`/proc/${pid}/fd`).filter((name) => readlinkSync(`/proc/${pid}/fd/${name}`).includes('ptmx'))
  assert.equal(masters(fresh.process.pid ?? 0).length, 2, 'the sidecar has both')
  const { stdout } = await fresh.exec('ls -l /proc/self/fd')
  assert.match(stdout, / 0 -> /)
  assert.doesNotMatch(stdout, /ptmx/)
  await fresh.call('PUT', '/files/content?path=a.txt', { body: 'a' })
  const third = await openQuiet(fresh)
  await type(third, 'ls -l /proc/$$/fd; echo "$PS1|en"d\n', fresh)
  assert.doesNotMatch((await read(third, /\|end/, { on: fresh })).text, /ptmx|null/)
  const children = readFileSync(`/proc/${fresh.process.pid}/task/${fresh.process.pid}/children`, 'utf8').trim().split(' ')
  for (const child of children) assert.deepEqual(masters(child), [], readFileSync(`/proc/${child}/cmdline`, 'utf8'))
  await type(first, 'exit\n', fresh)
  await fresh.allEvents(`/terminals/${first}/stream`)
  const nothing = async (): Promise<number> => (await fresh.exec('ls -l /proc/self/fd </dev/zero')).stdout.match(/dev\/null/g)?.length ?? 0
  await until('its place is free', async () => (await nothing()) === 2)
})

test('a later terminal is given the prompt that was asked for', async () => {
  const { session_id: one } = await open({ env: { PS1: 'first> ' } })
  const { session_id: other } = await open({ env: { PS1: 'asked for> ' } })
  await type(other, 'tr "\\0" "\\n" < /proc/$$/environ; echo "en"d\n')
  assert.match((await read(other, /^end/m)).text, /^PS1=asked for> \r$/m)
  for (const id of [one, other]) await sidecar.call('DELETE', `/terminals/${id}`)
})

test('resizing reaches the program', async () => {
  const id = await openQuiet()
  await type(id, 'trap "stty size; echo resized" WINCH; echo waiting\n')
  await read(id, /waiting/)
  assert.deepEqual(await sidecar.json('PATCH', `/terminals/${id}`, { cols: 120, rows: 40 }), { success: true })
  // The trap of a shell that reads its input runs with the next line.
  await type(id, '\n')
  assert.match((await read(id, /resized/)).text, /40 120/)
  const { sessions } = await sidecar.json<{ sessions: Terminal[] }>('GET', '/terminals')
  const view = sessions.find(({ session_id }) => session_id === id)
  assert.deepEqual([view?.cols, view?.rows, view?.running], [120, 40, true])
  await sidecar.call('DELETE', `/terminals/${id}`)
})

test('frames are exactly those that the web client reads', async () => {
  const id = await openQuiet()
  await type(id, 'printf "\\303\\251\\n"; exit 7\n')
  const body = (await sidecar.call('GET', `/terminals/${id}/stream`)).body.toString()
  assert.match(body, /id: \d+\nevent: data\.stdout\ndata: {"type":"data\.stdout","properties":{"text":"[^"]*é[^"]*"}}\n\n/)
  assert.match(body, /id: \d+\nevent: exit\ndata: {"type":"exit","code":7,"signal":null}\n\n$/)
})

test('characters are never cut in two, wherever the pieces of the output end', async () => {
  const id = await openQuiet()
  const pieces = String.raw`for i in 1 2 3; do printf '\342\202'; sleep 0.03; printf '\254\360\237'; sleep 0.03; printf '\230\200'; done`
  await type(id, `${pieces}; exit\n`)
  const events = await sidecar.allEvents(`/terminals/${id}/stream`)
  const text = events.map(textOf).join('')
  assert.ok(!text.includes('\ufffd'))
  assert.ok(text.includes('€😀€😀€😀'))
})

test('who comes later sees the scrollback, who comes back sees what is new', async () => {
  const id = await openQuiet()
  await type(id, 'echo first\n')
  const { last } = await read(id, /first/)
  await type(id, 'echo second\n')
  const again = await read(id, /second/, { cursor: last })
  assert.doesNotMatch(again.text, /first/)
  const [one, other] = await Promise.all([read(id, /second/), read(id, /second/)])
  assert.match(one.text, /first/)
  assert.equal(one.text, other.text)
  await sidecar.call('DELETE', `/terminals/${id}`)
})

test('an ended session is listed as such, takes no input, and goes when it is deleted', async () => {
  const id = await openQuiet()
  await type(id, 'exit\n')
  await sidecar.allEvents(`/terminals/${id}/stream`)
  const listed = async (): Promise<Terminal | undefined> =>
    (await sidecar.json<{ sessions: Terminal[] }>('GET', '/terminals')).sessions.find(({ session_id }) => session_id === id)
  assert.equal((await listed())?.running, false)
  assert.equal((await type(id, 'x')).status, 409)
  assert.deepEqual(await sidecar.json('DELETE', `/terminals/${id}`), { deleted: true, session_id: id })
  assert.equal(await listed(), undefined)
  assert.equal((await type(id, 'x')).status, 404)
})

test('closing a terminal ends its jobs, also those in the background', async () => {
  const id = await openQuiet()
  await type(id, '(trap "" HUP; exec sleep 94.2468) & echo started\n')
  await read(id, /started/)
  await sidecar.call('DELETE', `/terminals/${id}`)
  assert.equal((await sidecar.exec('pgrep -f "sleep 94[.]2468"')).exit_code, 1)
})

test('a program that does not read its input never stops the sidecar', async () => {
  const id = await openQuiet()
  await type(id, 'stty raw; echo raw; sleep 60\n')
  await read(id, /raw/)
  const inputs = Array.from({ length: 14 }, () => type(id, 'x'.repeat(100_000)))
  const refused = await Promise.any(inputs.map(async (input) => ((await input).status === 503 ? true : Promise.reject(new Error('taken')))))
  assert.equal(refused, true)
  assert.equal((await sidecar.exec('echo alive')).stdout, 'alive\n')
  await sidecar.call('DELETE', `/terminals/${id}`)
  await Promise.allSettled(inputs)
})

test('a WebSocket carries bytes both ways, and a text frame resizes', async () => {
  const id = await openQuiet()
  const socket = new WebSocket(`ws+unix://${sidecar.socketPath}:/terminals/${id}/socket`)
  let text = ''
  const controls: unknown[] = []
  socket.on('message', (data, isBinary) => {
    if (isBinary) text += String(data)
    else controls.push(JSON.parse(String(data)))
  })
  await once(socket, 'open')
  socket.send(JSON.stringify({ cols: 99, rows: 33 }))
  socket.send(Buffer.from('stty size; printf "\\303\\251\\n"; exit 5\n'))
  const [code] = await once(socket, 'close')
  assert.equal(code, 1000)
  assert.match(text, /33 99\r\né\r\n/)
  assert.deepEqual(controls, [{ type: 'exit', code: 5, signal: null }])
})

test('a session that nobody looks at and nothing happens in expires', async () => {
  await using quick = await startSidecarProcess({ env: { ATOLL_TERMINAL_IDLE_MS: '300' } })
  await openQuiet(quick)
  await until('it is gone', async () => (await quick.json<{ sessions: Terminal[] }>('GET', '/terminals')).sessions.length === 0)
})

test('there are no more terminals than allowed, and ended ones make place', async () => {
  await using small = await startSidecarProcess({ env: { ATOLL_TERMINALS: '1' } })
  const id = await openQuiet(small)
  assert.equal((await small.call('POST', '/terminals', { body: {} })).status, 429)
  await type(id, 'exit\n', small)
  await small.allEvents(`/terminals/${id}/stream`)
  assert.equal((await small.call('POST', '/terminals', { body: {} })).status, 200)
})

test('a viewer that takes nothing costs no memory and holds nobody up', async () => {
  await using small = await startSidecarProcess({ env: { ATOLL_SCROLLBACK_BYTES: '200000' } })
  const id = await openQuiet(small)
  const stuck = await small.open('GET', `/terminals/${id}/stream`)
  await type(id, 'seq 3000000 | tail -c 20000000; echo "do"ne; exit\n', small)
  const events = await small.allEvents(`/terminals/${id}/stream`)
  assert.match(events.map(textOf).join('').slice(-100), /done\r\n/)
  const resident = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${small.process.pid}/status`, 'utf8'))?.[1])
  assert.ok(resident < 250_000, `the sidecar took ${resident} kB`)
  stuck.destroy()
})
