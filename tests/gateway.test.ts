// Model calls out of a sandbox: the key is the operator's, the bytes are the provider's, and what is used is counted.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { GatewaySubject, post, realKey, smallSandbox as small } from './gateway-subject.ts'
import { testRuntimes } from './runtimes.ts'
import { startOperator } from './start-operator.ts'
import { startProvider, type TestProvider } from './test-provider.ts'

const event = (data: unknown): string => `data: ${JSON.stringify(data)}\n\n`

let provider: TestProvider

before(async () => {
  provider = await startProvider()
})

after(async () => {
  await provider?.[Symbol.asyncDispose]()
})

for (const { name, skip } of testRuntimes) {
  describe(`the gateway of a ${name} sandbox`, { skip }, () => {
    let subject: GatewaySubject
    const usual = (): void => {
      provider.answer = (_, response) => {
        response.setHeader('content-type', 'application/json')
        response.end(JSON.stringify({ model: 'test-1', usage: { prompt_tokens: 10, completion_tokens: 3 } }))
      }
      provider.seen.length = 0
    }

    before(async () => {
      subject = await GatewaySubject.start(name, provider)
    })

    after(async () => {
      await subject?.[Symbol.asyncDispose]()
    })

    test('processes find a placeholder and an address on their own loopback, and the provider gets the real key and no other', async () => {
      usual()
      const env = await subject.run('env')
      assert.match(env, /^OPENAI_API_KEY=atoll-placeholder$/m)
      assert.match(env, /^OPENAI_BASE_URL=http:\/\/127\.0\.0\.1:7077\/custom:mine$/m)
      assert.doesNotMatch(env, new RegExp(realKey))
      const headers = { authorization: 'Bearer stolen', 'x-api-key': 'other', 'x-goog-api-key': 'third', cookie: 'a=b', 'x-mine': 'kept' }
      const answer = await subject.ask(
        '/custom:mine/chat/completions?key=fourth&alt=sse&access_token=x',
        post('{"model":"test-1"}', headers),
      )
      assert.deepEqual([answer.status, JSON.parse(answer.text).model], [200, 'test-1'])
      const [seen] = provider.seen
      assert.deepEqual([seen?.method, seen?.url, seen?.body.toString()], ['POST', '/chat/completions?alt=sse', '{"model":"test-1"}'])
      assert.equal(seen?.headers.authorization, `Bearer ${realKey}`)
      assert.equal(seen?.headers['x-mine'], 'kept')
      for (const gone of ['x-api-key', 'x-goog-api-key', 'cookie']) assert.equal(seen?.headers[gone], undefined, gone)
    })

    test('a stream arrives piece by piece, byte for byte, and its usage is counted', async () => {
      const before = await subject.usage('by=model')
      const pieces = [
        event({ id: 1, delta: 'é漢🦀' }),
        event({ id: 2 }),
        event({ model: 'streamed-1', usage: { prompt_tokens: 70, completion_tokens: 9, prompt_tokens_details: { cached_tokens: 50 } } }),
        'data: [DONE]\n\n',
      ]
      let isSecondAsked = false
      let release = (): void => undefined
      provider.answer = async (_, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.write(pieces[0])
        await new Promise<void>((resolve) => {
          release = resolve
        })
        for (const piece of pieces.slice(1)) response.write(piece)
        response.end()
      }
      provider.upgrade = () => undefined
      // The provider goes on only when the sandbox says that it has the first piece, so a gateway that waited would wait for ever.
      const running = subject.script(`
        const r = await fetch('http://127.0.0.1:7077/custom:mine/chat/completions', { method: 'POST', body: '{}' })
        const reader = r.body.getReader(); const chunks = [(await reader.read()).value]
        await fetch('http://127.0.0.1:7077/custom:mine/models')
        for (;;) { const { value, done } = await reader.read(); if (done) break; chunks.push(value) }
        console.log(JSON.stringify(Buffer.concat(chunks).toString('base64')))`)
      const stream = provider.answer
      provider.answer = (seen, response) => {
        if (seen.url !== '/models') return stream(seen, response)
        isSecondAsked = true
        response.end('{}')
        release()
      }
      assert.equal(Buffer.from(await running, 'base64').toString(), pieces.join(''))
      assert.ok(isSecondAsked)
      const added = (await subject.usage('by=model,provider')).find((row: { model: string }) => row.model === 'streamed-1')
      assert.deepEqual(
        [added.provider, added.requests, added.input_tokens, added.cached_tokens, added.output_tokens, added.estimated],
        ['custom:mine', 1, 20, 50, 9, 0],
      )
      assert.ok(before.every((row: { model: string }) => row.model !== 'streamed-1'))
      const { body } = await subject.operator.call('GET', '/api/services/default/provider-keys/custom:mine')
      assert.ok(body.last_used_at > 0)
    })

    test('a compressed answer stays compressed, and is read all the same', async () => {
      const zipped = gzipSync(JSON.stringify({ model: 'zipped-1', usage: { prompt_tokens: 5, completion_tokens: 6 } }))
      provider.answer = (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip', 'content-length': zipped.length })
        response.end(zipped)
      }
      const raw = await subject.script(
        `import http from 'node:http'
         const asked = http.request('http://127.0.0.1:7077/custom:mine/chat/completions', { method: 'POST' })
         asked.end('{}')
         const answer = await new Promise((resolve) => asked.once('response', resolve))
         const chunks = []
         for await (const chunk of answer) chunks.push(chunk)
         console.log(JSON.stringify([answer.headers['content-encoding'], Buffer.concat(chunks).toString('base64')]))`,
      )
      assert.deepEqual(raw, ['gzip', zipped.toString('base64')])
      const row = (await subject.usage('by=model')).find((one: { model: string }) => one.model === 'zipped-1')
      assert.deepEqual([row.input_tokens, row.output_tokens], [5, 6])
    })

    test('what the provider refuses reaches the sandbox unchanged, but for the key in it', async () => {
      for (const [status, headers] of [
        [401, {}],
        [429, { 'retry-after': '7', 'x-ratelimit-remaining': '0' }],
        [500, {}],
        [529, {}],
      ] as const) {
        const said = JSON.stringify({ error: { message: `no ${status}`, echoed: 'Bearer …' } })
        provider.answer = (_, response) =>
          response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(said) && undefined
        const answer = await subject.ask('/custom:mine/chat/completions', post('{}'))
        assert.deepEqual([answer.status, answer.text], [status, said])
        for (const [header, value] of Object.entries(headers)) assert.equal(answer.headers[header], value)
      }
      provider.answer = (seen, response) =>
        response.writeHead(401, { 'x-echo': seen.headers.authorization }).end(`wrong key: ${seen.headers.authorization}`) && undefined
      const answer = await subject.ask('/custom:mine/chat/completions', post('{}'))
      assert.deepEqual([answer.status, answer.text, answer.headers['x-echo']], [401, 'wrong key: Bearer [secret]', undefined])
    })

    test('what may not be asked is refused with what to do, and never leaves', async () => {
      usual()
      const cases: [path: string, status: number, code: string][] = [
        ['/anthropic/v1/messages', 402, 'provider.key_missing'],
        ['/nobody/v1/messages', 402, 'provider.key_missing'],
        ['/custom:mine/files', 403, 'provider.path_refused'],
        ['/custom:mine/../admin', 400, 'request.invalid'],
        ['/custom:mine/models/%2e%2e/admin', 403, 'provider.path_refused'],
        ['/custom:mine//chat/completions', 400, 'request.invalid'],
        ['/custom:mine/chat%2fcompletions', 400, 'request.invalid'],
        ['/custom:mine', 400, 'request.invalid'],
        ['/', 400, 'request.invalid'],
      ]
      for (const [path, status, code] of cases) {
        const answer = await subject.ask(path, post('{}'))
        assert.deepEqual([answer.status, JSON.parse(answer.text).error.code, answer.headers['x-atoll-refused']], [status, code, code], path)
      }
      const missing = await subject.ask('/anthropic/v1/messages', post('{}'))
      assert.match(JSON.parse(missing.text).error.message, /atoll provider-key set anthropic --service \d+/)
      assert.equal(provider.seen.length, 0)
      const events = await subject.operator.call('GET', `/api/sandboxes/${subject.sandbox}/events?limit=500`)
      assert.match(events.text, /model\.denied/)
      const log = await subject.operator.call('GET', '/api/audit?action=model.denied')
      assert.ok(
        log.body.entries.some((entry: { outcome: string }) => entry.outcome === 'provider.key_missing'),
        log.text,
      )
    })

    test('a model that is not allowed is refused, however it is spelled', async () => {
      usual()
      await subject.setKey('custom:few', { models: ['test-*'] })
      const ask = async (body: string) => (await subject.ask('/custom:few/chat/completions', post(body))).status
      assert.equal(await ask('{"model":"test-1","messages":[{"model":"inner"}]}'), 200)
      const refused = [
        '{"model":"big-1"}',
        '{}',
        '[]',
        '{"model":"test-1","model":"big-1"}',
        String.raw`{"model":"big-1","mod\u0065l":"test-1"}`,
        '{"model":["test-1"]}',
        '{"model":"test-1","models":["big-1"]}',
        '{"model":"test-1","background":true}',
        'x',
      ]
      for (const body of refused) assert.ok([400, 403].includes(await ask(body)), body)
      assert.equal(provider.seen.length, 1)
      await subject.operator.call('DELETE', '/api/services/default/provider-keys/custom:few')
    })

    test('a quota of calls is exact for 200 at once', async () => {
      usual()
      const { body: service } = await subject.operator.call('GET', '/api/services/default')
      const used = (await subject.usage('by=service')).length
      assert.equal(used, 1)
      const made = await subject.operator.call('POST', '/api/services', { body: { name: 'tight', quotas: { requests_per_day: 50 } } })
      await subject.setKey('custom:mine', { like: 'openai' }, made.body.id)
      const sandbox = await subject.operator.newSandbox({ ...small, service_id: made.body.id })
      const statuses: number[] = await subject.script(
        `const one = () => fetch('http://127.0.0.1:7077/custom:mine/chat/completions', { method: 'POST', body: '{}' }).then(async (r) => (await r.text(), r.status))
         console.log(JSON.stringify(await Promise.all(Array.from({ length: 200 }, one))))`,
        sandbox,
      )
      const count = (status: number): number => statuses.filter((one) => one === status).length
      assert.deepEqual([count(200), count(402), provider.seen.length], [50, 150, 50])
      const refused = await subject.ask('/custom:mine/chat/completions', post('{}'), sandbox)
      assert.equal(JSON.parse(refused.text).error.code, 'budget.spent')
      assert.equal((await subject.usage(`by=service&service=${made.body.id}`))[0].requests, 50)
      assert.notEqual(service.id, made.body.id)
      await subject.operator.call('DELETE', `/api/sandboxes/${sandbox}`)
    })

    test('tokens and spend end with their quota, and a model without a price costs no unknown sum', async () => {
      usual()
      const made = await subject.operator.call('POST', '/api/services', { body: { name: 'tokens', quotas: { tokens_per_day: 20 } } })
      const { id } = made.body
      await subject.setKey('custom:mine', { like: 'openai' }, id)
      const sandbox = await subject.operator.newSandbox({ ...small, service_id: id })
      const ask = async () => (await subject.ask('/custom:mine/chat/completions', post('{"model":"test-1"}'), sandbox)).text
      assert.match(await ask(), /test-1/)
      assert.match(await ask(), /test-1/)
      assert.match(await ask(), /budget.spent/)
      await subject.operator.call('PATCH', `/api/services/${id}`, { body: { quotas: { tokens_per_day: 0, spend_per_day_usd: 1 } } })
      assert.match(await ask(), /budget.unpriced/)
      await subject.operator.call('DELETE', `/api/sandboxes/${sandbox}`)
    })

    test('large bodies go through both ways', async () => {
      const size = 48 * 1024 * 1024
      provider.answer = (seen, response) => {
        response.writeHead(200, {
          'content-type': 'application/octet-stream',
          'x-got': createHash('sha256').update(seen.body).digest('hex'),
        })
        response.end(seen.body)
      }
      const [sent, got, back] = await subject.script(
        `import { createHash, randomBytes } from 'node:crypto'
         const body = randomBytes(${size}); const hex = (b) => createHash('sha256').update(b).digest('hex')
         const r = await fetch('http://127.0.0.1:7077/custom:mine/embeddings', { method: 'POST', body })
         console.log(JSON.stringify([hex(body), r.headers.get('x-got'), hex(Buffer.from(await r.arrayBuffer()))]))`,
      )
      assert.deepEqual([got, back], [sent, sent])
    })

    test('a provider that cannot be reached is told as such, also to whoever sends a large body', async () => {
      await subject.operator.call('PUT', '/api/services/default/provider-keys/custom:gone', {
        body: { key: realKey, base_url: `http://${provider.address}`, like: 'openai' },
      })
      provider.answer = (_, response) => void response.destroy()
      for (const size of [2, 3_000_000]) {
        const answer = await subject.ask('/custom:gone/responses', `{ method: 'POST', body: 'x'.repeat(${size}) }`)
        assert.deepEqual([answer.status, JSON.parse(answer.text).error.code], [502, 'provider.unreachable'])
      }
      await subject.operator.call('DELETE', '/api/services/default/provider-keys/custom:gone')
    })

    test('a sandbox that leaves ends the call at the provider', async () => {
      const left = provider.left()
      provider.answer = (_, response) => void response.writeHead(200, { 'content-type': 'text/event-stream' }).write(event({ one: 1 }))
      await subject.script(
        `const stop = new AbortController()
         const r = await fetch('http://127.0.0.1:7077/custom:mine/responses', { method: 'POST', body: '{}', signal: stop.signal })
         await r.body.getReader().read(); stop.abort(); console.log(1)`,
      )
      for (let tries = 0; provider.left() === left && tries < 100; tries += 1) await delay(20)
      assert.equal(provider.left(), left + 1)
    })

    test('a WebSocket goes through with the real key, and what is said in it is counted', async () => {
      const { WebSocketServer } = await import('ws')
      const server = new WebSocketServer({ noServer: true, perMessageDeflate: true })
      let authorization: string | undefined
      provider.upgrade = (request, socket) => {
        authorization = request.headers.authorization
        server.handleUpgrade(request, socket, Buffer.alloc(0), (ws) => {
          ws.on('message', (data) => {
            ws.send(`echo ${String(data)}`)
            ws.send(
              JSON.stringify({ type: 'response.completed', response: { model: 'socket-1', usage: { input_tokens: 4, output_tokens: 2 } } }),
            )
          })
        })
      }
      const answer = await subject.script(
        `const ws = new WebSocket('ws://127.0.0.1:7077/custom:mine/realtime?model=x'); const got = []
         ws.onopen = () => ws.send('hi 漢')
         ws.onmessage = (e) => { got.push(e.data); if (got.length === 2) ws.close() }
         await new Promise((r) => { ws.onclose = r; ws.onerror = r }); console.log(JSON.stringify(got))`,
      )
      assert.equal(answer[0], 'echo hi 漢')
      assert.equal(authorization, `Bearer ${realKey}`)
      const find = async () => (await subject.usage('by=model')).find((one: { model: string }) => one.model === 'socket-1')
      for (let tries = 0; !(await find()) && tries < 50; tries += 1) await delay(20)
      assert.deepEqual([(await find()).input_tokens, (await find()).output_tokens], [4, 2])
      server.close()
    })

    test('a key of the user goes to the address of the user, and not to the gateway', async () => {
      const mixed = await subject.run('env | grep OPENAI_ || true', { OPENAI_API_KEY: 'sk-mine' })
      assert.equal(mixed, 'OPENAI_API_KEY=sk-mine\n')
    })

    test('a key that is removed is of no use from then on, and nobody is told of it any more', async () => {
      usual()
      await subject.setKey('custom:brief', { like: 'anthropic' })
      for (let tries = 0; tries < 50; tries += 1) {
        if ((await subject.run('env')).includes('ANTHROPIC_BASE_URL=')) break
        await delay(20)
      }
      assert.match(await subject.run('env'), /^ANTHROPIC_BASE_URL=http:\/\/127\.0\.0\.1:7077\/custom:brief$/m)
      await subject.operator.call('DELETE', '/api/services/default/provider-keys/custom:brief')
      const answer = await subject.ask('/custom:brief/v1/messages', post('{}'))
      assert.deepEqual([answer.status, provider.seen.length], [402, 0])
      for (let tries = 0; tries < 50 && (await subject.run('env')).includes('ANTHROPIC_'); tries += 1) await delay(20)
      assert.doesNotMatch(await subject.run('env'), /ANTHROPIC_/)
    })

    test('a sandbox whose owner is no member of its service any more gets nothing', async () => {
      usual()
      const { operator } = subject
      const made = await operator.call('POST', '/api/services', { body: { name: 'shared', members: ['mia'] } })
      await subject.setKey('custom:mine', { like: 'openai' }, made.body.id)
      const mia = await operator.newKey('mia')
      const created = await operator.call('POST', '/api/sandboxes', { key: mia, body: { ...small, service_id: made.body.id } })
      const ask = () =>
        operator.call('POST', `/api/sandboxes/${created.body.id ?? created.body.sandbox?.id}/exec`, {
          key: mia,
          body: { command: `/opt/atoll/node -e "fetch('http://127.0.0.1:7077/custom:mine/models').then((r) => console.log(r.status))"` },
        })
      assert.equal((await ask()).body.stdout, '200\n')
      assert.deepEqual((await subject.usage('by=sandbox', mia)).length, 1)
      await operator.call('PATCH', `/api/services/${made.body.id}`, { body: { members: [] } })
      assert.equal((await ask()).body.stdout, '404\n')
      assert.equal(provider.seen.length, 1)
      const stranger = await operator.newKey('stan')
      assert.deepEqual(await subject.usage('by=service', stranger), [])
    })

    test('malformed requests are refused, and the door stays open', async () => {
      usual()
      const answers: string[] = await subject.script(`
        import net from 'node:net'
        const ask = (text) => new Promise((resolve) => {
          const socket = net.connect(7077, '127.0.0.1'); let got = ''
          socket.on('data', (d) => { got += d }); socket.on('error', () => undefined)
          socket.on('close', () => resolve(got.slice(9, 12))); socket.write(text); socket.on('end', () => socket.destroy()); setTimeout(() => socket.destroy(), 30_000).unref()
        })
        const line = 'POST /custom:mine/chat/completions HTTP/1.1\\r\\nhost: x\\r\\n'
        console.log(JSON.stringify(await Promise.all([
          ask('nonsense\\r\\n\\r\\n'), ask(line + 'content-length: 4\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n'),
          ask(line + 'content-length: 4\\r\\ncontent-length: 5\\r\\n\\r\\nabcde'), ask(line + 'x: ' + 'a'.repeat(1 << 20) + '\\r\\n\\r\\n'),
          ask('GET /custom:mine/models/%2e%2e/admin HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n'), ask('GET /custom:mine/models/../admin HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n'),
          ask('CONNECT a.example.com:443 HTTP/1.1\\r\\nhost: a.example.com:443\\r\\n\\r\\n'), ask('CONNECT :::: HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n'),
          ask('GET http://169.254.169.254/latest HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n')])))`)
      assert.deepEqual(answers.slice(0, 4), ['400', '400', '400', '431'])
      for (const denied of answers.slice(4)) assert.match(denied, /^4\d\d$/)
      assert.equal(provider.seen.length, 0)
      assert.equal((await subject.ask('/custom:mine/models')).status, 200)
    })

    test('nobody gets at the gateway through the ports of the sandbox', async () => {
      const { body } = await subject.operator.call('GET', `/api/sandboxes/${subject.sandbox}/ports`)
      assert.doesNotMatch(JSON.stringify(body), /7077/)
      const exposing = await subject.operator.newSandbox({ ...small, metadata_json: { ports: [7077] } })
      const through = await subject.operator.call('GET', `/api/sandboxes/${exposing}/port/7077/custom:mine/models`)
      assert.equal(through.body.code, 'port.closed', through.text)
      await subject.operator.call('DELETE', `/api/sandboxes/${exposing}`)
    })

    test('a sandbox goes on with its gateway after a stop and a resume, and after the operator was killed', async () => {
      usual()
      const { operator, sandbox } = subject
      await operator.call('POST', `/api/sandboxes/${sandbox}/stop`)
      await operator.call('POST', `/api/sandboxes/${sandbox}/resume`)
      assert.equal((await subject.ask('/custom:mine/models')).status, 200)
      await subject.run(
        `nohup /opt/atoll/node -e "setInterval(() => fetch('http://127.0.0.1:7077/custom:mine/models').then((r) => require('fs').appendFileSync('seen.txt', r.status + ' '), () => undefined), 20)" >/dev/null 2>&1 &`,
      )
      await subject.run('until grep -q 200 seen.txt; do sleep 0.05; done')
      await operator.kill()
      await delay(300)
      subject.operator = await startOperator({ runtime: name, folder: operator.folder, env: { ATOLL_TRUSTED_UPSTREAMS: provider.address } })
      await subject.run('until tail -c 8 seen.txt | grep -q "200 200"; do sleep 0.05; done')
      assert.match(await subject.run('cat seen.txt'), /^200 .*503 .*200 $/)
      await subject.run('pkill -f "[s]etInterval" || true')
    })
  })
}
