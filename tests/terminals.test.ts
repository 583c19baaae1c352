// Terminals over both of their doors.
import assert from 'node:assert/strict'
import http from 'node:http'
import { after, before, describe, test } from 'node:test'
import { readEvents, type StreamEvent } from './events.ts'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

/** Reads until the text holds what is looked for. */
async function until(events: AsyncGenerator<StreamEvent>, wanted: RegExp): Promise<{ text: string; cursor: number }> {
  let text = ''
  for (;;) {
    const { done, value } = await events.next()
    if (done) assert.fail(`the stream ended after: ${text}`)
    if (value.data.type === 'data.stdout') text += value.data.properties.text
    if (wanted.test(text)) return { text, cursor: Number(value.id) }
  }
}

for (const { name: runtime, skip } of testRuntimes) {
  describe(`on ${runtime}`, { skip }, () => {
    let operator: TestOperator
    let base: string
    before(async () => {
      operator = await startOperator({ runtime })
      base = `/api/sandboxes/${await operator.newSandbox()}/live/terminal/sessions`
    })
    after(() => operator[Symbol.asyncDispose]())

    const open = async (body: object = {}): Promise<string> => {
      const { status, body: session, text } = await operator.call('POST', base, { body })
      assert.equal(status, 200, text)
      return session.session_id
    }
    const type = (id: string, data: string) => operator.call('POST', `${base}/${id}/input`, { body: { data } })

    test('it is a real terminal that resizes, and frames are what the web client shows', async () => {
      const id = await open({ cols: 100, rows: 30 })
      const stream = await operator.fetch('GET', `${base}/${id}/stream`)
      assert.match(stream.headers.get('content-type') ?? '', /^text\/event-stream/)
      const events = readEvents(stream)
      assert.deepEqual((await type(id, 'tty; stty size\n')).body, { success: true })
      assert.match((await until(events, /30 100/)).text, /\/dev\/pts\/\d+/)
      assert.deepEqual((await operator.call('PATCH', `${base}/${id}`, { body: { cols: 132, rows: 43 } })).body, { success: true })
      await type(id, 'stty size\n')
      await until(events, /43 132/)
      await events.return(undefined)
      assert.deepEqual((await operator.call('DELETE', `${base}/${id}`, { body: {} })).body, { deleted: true, session_id: id })
    })

    test('a viewer that comes back gets what it missed, and a second viewer all that is kept', async () => {
      const id = await open()
      const first = readEvents(await operator.fetch('GET', `${base}/${id}/stream`))
      await type(id, 'echo o""ne\n')
      const { cursor } = await until(first, /one/)
      await first.return(undefined)
      await type(id, 'echo t""wo\n')
      const again = readEvents(await operator.fetch('GET', `${base}/${id}/stream`, { headers: { 'last-event-id': String(cursor) } }))
      const { text } = await until(again, /two/)
      assert.doesNotMatch(text, /\bone\b/)
      const second = readEvents(await operator.fetch('GET', `${base}/${id}/stream`))
      assert.match((await until(second, /two/)).text, /one/)
      await Promise.all([again.return(undefined), second.return(undefined)])
    })

    test('over a WebSocket, bytes go both ways and a text frame resizes', async () => {
      const id = await open()
      const socket = new WebSocket(`${operator.url.replace('http', 'ws')}${base}/${id}/socket`, {
        headers: { authorization: `Bearer ${operator.adminKey}` },
      } as unknown as string[])
      socket.binaryType = 'arraybuffer'
      let text = ''
      const seen = (wanted: RegExp): Promise<void> =>
        new Promise((resolve, reject) => {
          socket.onerror = () => reject(new Error('the WebSocket failed'))
          socket.onmessage = ({ data }) => {
            text += Buffer.from(data).toString()
            if (wanted.test(text)) resolve()
          }
        })
      await new Promise((resolve) => {
        socket.onopen = resolve
      })
      const sized = seen(/50 77/)
      socket.send(JSON.stringify({ cols: 77, rows: 50 }))
      socket.send(new TextEncoder().encode('stty size\n'))
      await sized
      socket.close()
    })

    test('a browser shows its credential as a protocol of the WebSocket, which is not passed on', async () => {
      const id = await open()
      const address = `${operator.url.replace('http', 'ws')}${base}/${id}/socket`
      const outcome = (protocols: string[]): Promise<string> =>
        new Promise((resolve) => {
          const socket = new WebSocket(address, protocols)
          socket.onopen = () => {
            resolve(socket.protocol)
            socket.close()
          }
          socket.onerror = () => resolve('refused')
        })
      assert.equal(await outcome([`atoll.credential.${operator.adminKey}`, 'atoll.terminal']), 'atoll.terminal')
      assert.equal(await outcome(['atoll.credential.atoll_a_wrong', 'atoll.terminal']), 'refused')
      assert.equal(await outcome(['atoll.terminal']), 'refused')
      const { body: stranger } = await operator.call('POST', '/api/keys', { body: { name: 'b', owner: 'bob' } })
      assert.equal(await outcome([`atoll.credential.${stranger.key}`, 'atoll.terminal']), 'refused')
    })

    test('pages of another site may not upgrade either', async () => {
      const id = await open()
      const refusal = (headers: Record<string, string>): Promise<number | undefined> =>
        new Promise((resolve, reject) => {
          const handshake = {
            connection: 'Upgrade',
            upgrade: 'websocket',
            'sec-websocket-version': '13',
            'sec-websocket-key': 'x3JJHMbDL1EzLkh9GBhXDw==',
          }
          const request = http.get(`${operator.url}${base}/${id}/socket`, {
            headers: { ...handshake, authorization: `Bearer ${operator.adminKey}`, ...headers },
          })
          request.once('error', reject)
          request.once('response', (answer) => resolve(answer.resume().statusCode))
          request.once('upgrade', (answer, socket) => {
            socket.destroy()
            resolve(answer.statusCode)
          })
        })
      assert.equal(await refusal({}), 101)
      assert.equal(await refusal({ origin: 'http://localhost:3000' }), 101)
      assert.equal(await refusal({ origin: 'http://evil.example' }), 403)
      assert.equal(await refusal({ host: 'evil.example' }), 403)
    })

    test('a shell that ends is listed as ended, says so on the stream, and takes no more input', async () => {
      const id = await open()
      const stream = readEvents(await operator.fetch('GET', `${base}/${id}/stream`))
      await type(id, 'exit 3\n')
      let exit: unknown
      for await (const { data } of stream) if (data.type === 'exit') exit = data
      assert.deepEqual(exit, { type: 'exit', code: 3, signal: null })
      const { body } = await type(id, 'x')
      assert.equal(body.code, 'terminal.ended')
      const { body: list } = await operator.call('GET', base)
      assert.equal(list.sessions.find((session: { session_id: string }) => session.session_id === id).running, false)
    })

    test('a size out of bounds is refused in the words of the reference', async () => {
      const { status, body } = await operator.call('PATCH', `${base}/x`, { body: { cols: 1001, rows: 5 } })
      assert.equal(status, 400)
      assert.match(body.error, /cols must be between 1 and 1000/)
    })
  })
}
