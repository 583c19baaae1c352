// The port proxy carries real web applications.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import http from 'node:http'
import { after, before, describe, test } from 'node:test'
import { readEvents } from './events.ts'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

/** A program for the sandbox: answers what it got, streams, redirects, echoes WebSocket frames. */
const program = String.raw`
import http from 'node:http'
import { createHash } from 'node:crypto'
const server = http.createServer(async (request, response) => {
  const url = new URL(request.url, 'http://x')
  if (url.pathname === '/echo') {
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'set-cookie': ['a=1', 'b=2'], 'x-frame-options': 'SAMEORIGIN' })
    return request.pipe(response)
  }
  if (url.pathname === '/redirect') return response.writeHead(302, { location: 'http://169.254.169.254/latest/' }).end()
  if (url.pathname === '/events') {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    let n = 0
    const timer = setInterval(() => response.write('id: ' + ++n + '\ndata: {"n":' + n + '}\n\n'), 50)
    return response.on('close', () => clearInterval(timer))
  }
  if (url.pathname === '/large') {
    response.writeHead(200)
    for (let i = 0; i < 64; i++) if (!response.write(Buffer.alloc(1 << 20, i))) await new Promise((go) => response.once('drain', go))
    return response.end()
  }
  response.writeHead(203, { 'content-type': 'application/json', connection: 'x-own', 'x-own': 'hop' })
  response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers }))
})
server.on('upgrade', (request, socket) => {
  if (request.url === '/refuse') return socket.end('HTTP/1.1 418 No\r\ncontent-length: 2\r\n\r\nno')
  const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64')
  socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ' + accept + '\r\n\r\n')
  // Unmasks a short text frame and sends it back.
  socket.on('data', (frame) => {
    const length = frame[1] & 127
    const mask = frame.subarray(2, 6)
    const text = frame.subarray(6, 6 + length).map((byte, i) => byte ^ mask[i % 4])
    if ((frame[0] & 15) === 1) socket.write(Buffer.concat([Buffer.from([0x81, length]), text]))
    else socket.end()
  })
  socket.on('error', () => {})
})
server.listen(3000, '127.0.0.1', () => console.log('ready'))
`

for (const { name: runtime, skip } of testRuntimes) {
  describe(`on ${runtime}`, { skip }, () => {
    let operator: TestOperator
    let sandbox: string
    let at: string
    before(async () => {
      operator = await startOperator({ runtime })
      sandbox = await operator.newSandbox({ metadata_json: { ports: [3000, 4000] } })
      at = `/api/sandboxes/${sandbox}/port/3000`
      await operator.call('PUT', `/api/sandboxes/${sandbox}/files/content?path=server.mjs`, { body: program })
      const started = await operator.call('POST', `/api/sandboxes/${sandbox}/processes`, {
        body: { argv: ['/opt/atoll/node', 'server.mjs'] },
      })
      const output = await operator.fetch('GET', `/api/sandboxes/${sandbox}/processes/${started.body.id}/events`)
      const first = await readEvents(output).next()
      assert.equal(first.value?.data.text, 'ready\n', JSON.stringify(first.value))
    })
    after(() => operator[Symbol.asyncDispose]())

    test('a request arrives with its method, path and query, and without what belongs to the operator', async () => {
      const { status, body, headers } = await operator.call('PATCH', `${at}/a%20b/c?x=1&y=%2F`, {
        body: '',
        headers: {
          cookie: 'own=1; atoll_preview=x',
          te: 'trailers',
          'x-custom': 'yes',
          'x-forwarded-for': '6.6.6.6',
          'x-forwarded-proto': 'https',
        },
      })
      assert.equal(status, 203)
      assert.deepEqual([body.method, body.url], ['PATCH', '/a%20b/c?x=1&y=%2F'])
      assert.equal(body.headers.authorization, undefined)
      assert.equal(body.headers.te, undefined)
      assert.equal(body.headers.cookie, 'own=1')
      assert.equal(body.headers['x-custom'], 'yes')
      assert.equal(body.headers['x-forwarded-for'], '127.0.0.1')
      assert.equal(body.headers['x-forwarded-proto'], 'http', 'nobody vouches for the caller')
      assert.equal(body.headers.host, 'localhost:3000')
      assert.match(body.headers['x-request-id'], /^req-/)
      assert.equal(headers.get('x-own'), null, 'a header that Connection names ends at the proxy')
    })

    test('a body of 20 MiB streams through both ways, with headers that occur twice', async () => {
      const bytes = randomBytes(20 * 1024 * 1024)
      const response = await operator.fetch('POST', `${at}/echo`, { body: bytes })
      assert.deepEqual(response.headers.getSetCookie(), ['a=1', 'b=2'])
      assert.equal(response.headers.get('x-frame-options'), 'SAMEORIGIN')
      assert.ok(Buffer.from(await response.arrayBuffer()).equals(bytes))
    })

    test('an answer that is larger than memory should hold streams through', async () => {
      const response = await operator.fetch('GET', `${at}/large`)
      let size = 0
      for await (const chunk of response.body ?? []) size += chunk.length
      assert.equal(size, 64 << 20)
    })

    test('events arrive as they are sent, and a client that leaves ends the stream', async () => {
      const abort = new AbortController()
      const events = readEvents(await operator.fetch('GET', `${at}/events`, { signal: abort.signal }))
      assert.equal((await events.next()).value?.data.n, 1)
      assert.equal((await events.next()).value?.data.n, 2)
      abort.abort()
    })

    test('a redirect is passed on and not followed', async () => {
      const { status, headers } = await operator.call('GET', `${at}/redirect`)
      assert.deepEqual([status, headers.get('location')], [302, 'http://169.254.169.254/latest/'])
    })

    test('a WebSocket goes through, and a refused one answers what the program said', async () => {
      const socket = new WebSocket(`${operator.url.replace('http', 'ws')}${at}/ws`, {
        headers: { authorization: `Bearer ${operator.adminKey}` },
      } as unknown as string[])
      const echoed = new Promise((resolve, reject) => {
        socket.onmessage = ({ data }) => resolve(data)
        socket.onerror = () => reject(new Error('the WebSocket failed'))
        socket.onopen = () => socket.send('hello')
      })
      assert.equal(await echoed, 'hello')
      socket.close()
      const { hostname, port } = new URL(operator.url)
      const refused = await new Promise<http.IncomingMessage>((resolve, reject) => {
        const headers = { connection: 'Upgrade', upgrade: 'websocket', authorization: `Bearer ${operator.adminKey}` }
        http.get({ hostname, port, path: `${at}/refuse`, headers }, resolve).on('error', reject)
      })
      assert.equal(refused.statusCode, 418)
      refused.resume()
    })

    test("a program gets its own caller's credentials, and never one of the operator", async () => {
      const seen = async (headers: Record<string, string>) =>
        (await operator.call('GET', `${at}/`, { key: undefined, headers })).body.headers
      const key = operator.adminKey
      const own = await seen({ 'x-api-key': key, authorization: 'Basic dXNlcjpwYXNz' })
      assert.deepEqual([own.authorization, own['x-api-key']], ['Basic dXNlcjpwYXNz', undefined])
      const both = await seen({ 'x-api-key': key, authorization: `Bearer ${key}` })
      assert.deepEqual([both.authorization, both['x-api-key']], [undefined, undefined])
    })

    test('a body of unknown length arrives as one, whatever the method', async () => {
      for (const method of ['DELETE', 'OPTIONS', 'POST']) {
        const body = new Blob(['GET /second HTTP/1.1\r\nhost: x\r\n\r\n']).stream()
        const { status, text } = await operator.call(method, `${at}/echo`, { body })
        assert.deepEqual([status, text], [200, 'GET /second HTTP/1.1\r\nhost: x\r\n\r\n'], method)
      }
    })

    test('a port that is closed, not exposed, or misspelt is refused', async () => {
      const closed = await operator.call('GET', `/api/sandboxes/${sandbox}/port/4000/`)
      assert.deepEqual([closed.status, closed.body.code], [502, 'port.closed'])
      const hidden = await operator.call('GET', `/api/sandboxes/${sandbox}/port/5000/`)
      assert.deepEqual([hidden.status, hidden.body.code], [404, 'port.not_exposed'])
      for (const port of ['02280', '+3000', '0', '65536', '3000x']) {
        const { status, body } = await operator.call('GET', `/api/sandboxes/${sandbox}/port/${port}/`)
        assert.deepEqual([status, body.code], [400, 'port.invalid'], port)
      }
    })

    test('ports are listed with what listens', async () => {
      const { body } = await operator.call('GET', `/api/sandboxes/${sandbox}/ports`)
      assert.deepEqual(body, { ports: { '3000': 3000, '4000': 4000 }, listening: [3000] })
    })

    /** A request by name, as a browser makes it: `*.localhost` is this machine. */
    const browse = (
      url: URL,
      cookie?: string,
      more: Record<string, string> = {},
    ): Promise<{ status: number | undefined; headers: http.IncomingHttpHeaders; text: string }> =>
      new Promise((resolve, reject) => {
        const headers = { host: url.host, ...(cookie && { cookie }), ...more }
        const request = http.get({ host: '127.0.0.1', port: url.port, path: `${url.pathname}${url.search}`, headers }, (response) => {
          let text = ''
          response.on('data', (chunk) => {
            text += chunk
          })
          response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, text }))
        })
        request.on('error', reject)
      })

    test('a preview link opens the port in a browser under a name of its own, by a cookie that is good for nothing else', async () => {
      const { status, body } = await operator.call('POST', `/api/sandboxes/${sandbox}/ports/3000/preview`, { body: { ttl_seconds: 60 } })
      assert.equal(status, 200)
      const url = new URL(body.url)
      assert.equal(url.hostname, `3000--${sandbox}.localhost`)
      const opened = await browse(url)
      assert.equal(opened.status, 302)
      assert.equal(opened.headers.location, '/')
      const cookie = opened.headers['set-cookie']?.[0] ?? ''
      assert.match(cookie, /; HttpOnly; SameSite=Lax/)
      const [pair = ''] = cookie.split(';')
      const page = await browse(new URL('/page?q=1', url), pair)
      assert.equal(page.status, 203)
      assert.equal(JSON.parse(page.text).url, '/page?q=1')
      assert.equal(JSON.parse(page.text).headers.cookie, undefined)
      const other = new URL(url.href.replace('3000--', '4000--'))
      assert.equal((await browse(new URL('/', other), pair)).status, 401)
      assert.equal((await browse(new URL('/', url))).status, 401)
      const api = await operator.call('GET', '/api/sandboxes', { key: undefined, headers: { cookie: pair } })
      assert.equal(api.status, 401)
    })

    test('an opened link serves its own pages, and shows the operator to nobody', async () => {
      const { body } = await operator.call('POST', `/api/sandboxes/${sandbox}/ports/3000/preview`, { body: {} })
      const url = new URL('/', body.url)
      const cookie = `atoll_preview=${body.token}`
      const status = async (more: Record<string, string>, cookies = cookie) => (await browse(url, cookies, more)).status
      assert.equal(await status({ origin: url.origin, 'sec-fetch-site': 'same-origin' }), 203)
      assert.equal(await status({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }), 203, 'a link to it')
      assert.equal(await status({ origin: url.origin.replace('3000--', '4000--') }), 403, 'another port')
      assert.equal(await status({ origin: 'null' }), 403, 'a page without an origin')
      assert.equal(await status({ 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors' }), 403, 'a script of another sandbox')
      assert.equal(await status({}, `atoll_preview=x; ${cookie}`), 203, 'a cookie that somebody else has set before it')
      const shown = JSON.parse((await browse(url, cookie, { authorization: `Bearer ${operator.adminKey}` })).text)
      assert.equal(shown.headers.authorization, undefined)
    })

    test("the same link works under the operator's path, in a page that may not act as the operator", async () => {
      const { body } = await operator.call('POST', `/api/sandboxes/${sandbox}/ports/3000/preview`, { body: {} })
      const opened = await operator.call('GET', `${at}/?atoll_token=${body.token}`, { key: undefined })
      assert.deepEqual([opened.status, opened.headers.get('location')], [302, `${at}/`])
      const cookie = opened.headers.get('set-cookie') ?? ''
      assert.ok(cookie.includes(`Path=${at}/;`))
      const [pair = ''] = cookie.split(';')
      const page = await operator.call('GET', `${at}/`, { key: undefined, headers: { cookie: pair } })
      assert.equal(page.status, 203)
      assert.match(page.headers.get('content-security-policy') ?? '', /^sandbox /)
    })

    test('a stopped sandbox answers 409 on its ports', async () => {
      const id = await operator.newSandbox({ metadata_json: { ports: [3000] } })
      await operator.call('POST', `/api/sandboxes/${id}/stop`)
      assert.equal((await operator.call('GET', `/api/sandboxes/${id}/port/3000/`)).body.code, 'sandbox.not_running')
    })
  })
}
