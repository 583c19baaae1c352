import assert from 'node:assert/strict'
import http from 'node:http'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type ScriptedModel, type SeenRequest, startScriptedModel } from '../scripted-model/server.ts'

let model: ScriptedModel
before(async () => {
  model = await startScriptedModel()
})
after(() => model.close())

type Body = Readonly<Record<string, unknown>>

const post = (path: string, body: Body, init: RequestInit = {}): Promise<Response> =>
  fetch(model.url + path, { method: 'POST', body: JSON.stringify(body), ...init })

/** The data of each event of a stream. */
async function events(answer: Response): Promise<unknown[]> {
  const text = await answer.text()
  const data = [...text.matchAll(/^data: (.*)$/gm)].map(([, json = '']) => json)
  return data.filter((json) => json !== '[DONE]').map((json): unknown => JSON.parse(json))
}

/** `dig(whole, 'choices', 0, 'message')`: what is there, or undefined. */
const dig = (value: unknown, ...path: (string | number)[]): unknown =>
  path.reduce<unknown>((inner, key) => (typeof inner === 'object' && inner !== null ? Reflect.get(inner, key) : undefined), value)

const texts = (values: readonly unknown[]): string[] => values.filter((value) => typeof value === 'string' && value !== '').map(String)

function lastSeen(): SeenRequest {
  const seen = model.requests.at(-1)
  assert.ok(seen)
  return seen
}

async function over(seen: SeenRequest): Promise<SeenRequest> {
  while (!seen.isOver) await delay(5)
  return seen
}

/** What a stream says before it says nothing more, which is taken for granted after a while. */
async function untilSilent(answer: Response): Promise<string> {
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader()
  let received = ''
  for (;;) {
    const next = await Promise.race([reader?.read(), delay(300).then(() => undefined)])
    assert.notEqual(next?.done, true, 'the stream has ended')
    if (!next || next.done) return received
    received += next.value
  }
}

const writeSchema = { type: 'object', properties: { file_path: { type: 'string' }, content: { type: 'string' } }, required: ['file_path'] }
const shellSchema = {
  type: 'object',
  properties: { command: { type: 'string' }, wait: { type: 'integer' } },
  required: ['command', 'wait'],
}

/** One conversation in four languages: a prompt, so many finished tool calls after it, two tools. */
const languages = {
  anthropic: {
    path: '/v1/messages?beta=true',
    body: (prompt: string, results = 0): Body => ({
      model: 'm',
      system: 'Primary working directory: /srv/project\nand more',
      tools: [
        { name: 'Write', input_schema: writeSchema },
        { name: 'Bash', input_schema: shellSchema },
      ],
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: '<system-reminder>note</system-reminder>' },
            { type: 'text', text: prompt },
          ],
        },
        { role: 'system', content: [{ type: 'text', text: '# Environment' }] },
        ...Array.from({ length: results }, () => [
          { role: 'assistant', content: [{ type: 'tool_use', id: 't', name: 'Write', input: {} }] },
          {
            role: 'user',
            content: [
              { type: 'tool_result', tool_use_id: 't', content: 'ok' },
              { type: 'text', text: 'a reminder' },
            ],
          },
        ]).flat(),
      ],
    }),
    deltas: (all: unknown[]) => texts(all.map((event) => dig(event, 'delta', 'text'))),

    text: (whole: unknown) => dig(whole, 'content', 0, 'text'),
  },
  responses: {
    path: '/v1/responses',
    body: (prompt: string, results = 0): Body => ({
      model: 'm',
      tools: [
        { type: 'function', name: 'Write', parameters: writeSchema },
        { type: 'namespace', name: 'functions', tools: [{ type: 'function', name: 'exec_command', parameters: shellSchema }] },
      ],
      input: [
        { type: 'message', role: 'user', content: [{ type: 'input_text', text: '<cwd>/srv/project</cwd>' }] },
        { type: 'message', role: 'user', content: [{ type: 'input_text', text: prompt }] },
        ...Array.from({ length: results }, () => [
          { type: 'function_call', name: 'Write', arguments: '{}', call_id: 'c' },
          { type: 'function_call_output', call_id: 'c', output: 'ok' },
        ]).flat(),
      ],
    }),
    deltas: (all: unknown[]) => texts(all.map((event) => dig(event, 'type') === 'response.output_text.delta' && dig(event, 'delta'))),
    text: (whole: unknown) => dig(whole, 'output', 0, 'content', 0, 'text'),
  },
  chat: {
    path: '/v1/chat/completions',
    body: (prompt: string, results = 0): Body => ({
      model: 'm',
      tools: [
        { type: 'function', function: { name: 'write', parameters: writeSchema } },
        { type: 'function', function: { name: 'bash', parameters: shellSchema } },
      ],
      messages: [
        { role: 'system', content: 'Working directory: /srv/project\n' },
        { role: 'user', content: prompt },
        ...Array.from({ length: results }, () => [
          { role: 'assistant', content: '', tool_calls: [{ id: 'c', type: 'function', function: { name: 'write', arguments: '{}' } }] },
          { role: 'tool', tool_call_id: 'c', content: 'ok' },
        ]).flat(),
      ],
    }),
    deltas: (all: unknown[]) => texts(all.map((event) => dig(event, 'choices', 0, 'delta', 'content'))),
    text: (whole: unknown) => dig(whole, 'choices', 0, 'message', 'content'),
  },
  gemini: {
    path: '/v1beta/models/m:generateContent',
    body: (prompt: string, results = 0): Body => ({
      systemInstruction: { parts: [{ text: '**Workspace Directories:**\n  - /srv/project\n' }] },
      tools: [
        {
          functionDeclarations: [
            { name: 'write_file', parametersJsonSchema: writeSchema },
            { name: 'run_shell_command', parametersJsonSchema: shellSchema },
          ],
        },
      ],
      contents: [
        { role: 'user', parts: [{ text: '<session_context>note</session_context>' }] },
        { role: 'user', parts: [{ text: prompt }] },
        ...Array.from({ length: results }, () => [
          { role: 'model', parts: [{ functionCall: { name: 'write_file', args: {} } }] },
          { role: 'user', parts: [{ functionResponse: { name: 'write_file', response: { output: 'ok' } } }] },
        ]).flat(),
      ],
    }),
    deltas: (all: unknown[]) => texts(all.map((event) => dig(event, 'candidates', 0, 'content', 'parts', 0, 'text'))),
    text: (whole: unknown) => dig(whole, 'candidates', 0, 'content', 'parts', 0, 'text'),
  },
}

type Language = (typeof languages)[keyof typeof languages]

/** The Gemini protocol says in the path, the others in the body, that an answer shall be streamed. */
function ask({ path, body }: Language, prompt: string, { results = 0, isStream = false } = {}): Promise<Response> {
  const streamed = path.replace(':generateContent', ':streamGenerateContent?alt=sse')
  return post(isStream ? streamed : path, { ...body(prompt, results), stream: isStream })
}

for (const [name, language] of Object.entries(languages)) {
  test(`${name}: the default plan calls the write tool in the working directory, then speaks`, async () => {
    assert.equal((await ask(language, 'hello [[file:a.txt]]')).status, 200)
    const { call, step, tools } = lastSeen()
    assert.equal(step, 'write')
    assert.equal(tools?.length, 2)
    assert.match(call?.name ?? '', /^write/i)
    assert.deepEqual(call?.arguments, { file_path: '/srv/project/a.txt', content: 'hello from the scripted model\n' })
    const whole = await (await ask(language, 'hello [[file:a.txt]]', { results: 1 })).json()
    assert.match(String(language.text(whole)), /^Done/)
    assert.deepEqual([lastSeen().step, lastSeen().position], ['text', 1])
  })

  test(`${name}: required arguments that nobody named are filled from the schema`, async () => {
    await ask(language, '[[plan:shell]] [[command:echo hi]]')
    assert.deepEqual(lastSeen().call?.arguments, { command: 'echo hi', wait: 1 })
    assert.match(lastSeen().call?.name ?? '', /bash|exec_command|run_shell_command/i)
  })

  test(`${name}: an answer is streamed in four pieces or more, and the usage is the one that was recorded`, async () => {
    const all = await events(await ask(language, '[[plan:text]] [[think]] [[reply:One two, grüße 🎉 three four.]]', { isStream: true }))
    const deltas = language.deltas(all)
    assert.ok(deltas.length >= 4, `${deltas.length} pieces`)
    assert.match(deltas.join(''), /One two, grüße 🎉 three four\.$/)
    const { usage, isStream } = lastSeen()
    assert.equal(isStream, true)
    assert.deepEqual(usage, { input: 1000, output: 42, cache_read: 200, cache_write: 0, reasoning: 7 })
    assert.match(JSON.stringify(all), /"(input_tokens|prompt_tokens|promptTokenCount)":1[02]00/)
  })

  test(`${name}: a call in a stream has the same arguments as in a whole answer`, async () => {
    const text = await (await ask(language, '[[plan:write]]', { isStream: true })).text()
    assert.match(text, /write/i)
    assert.deepEqual(lastSeen().call?.arguments, { file_path: '/srv/project/hello.txt', content: 'hello from the scripted model\n' })
  })

  for (const status of [401, 403, 404, 429, 500, 503, 529]) {
    test(`${name}: ${status} comes in the protocol's own form`, async () => {
      const answer = await ask(language, `[[plan:err${status}]]`, { isStream: true })
      assert.equal(answer.status, status)
      assert.equal(answer.headers.get('retry-after'), status === 429 ? '1' : null)
      assert.match(String(dig(await answer.json(), 'error', 'message')), new RegExp(String(status)))
      assert.equal(lastSeen().usage, undefined)
    })
  }

  test(`${name}: a stream that is cut has begun`, async () => {
    const answer = await ask(language, '[[plan:drop]]', { isStream: true })
    assert.equal(answer.status, 200)
    await assert.rejects(answer.text(), /terminated/)
    const { closedEarly, usage } = await over(lastSeen())
    assert.deepEqual([closedEarly, usage], [true, undefined])
  })

  test(`${name}: a stream that stalls sends some words, then nothing`, async () => {
    const answer = await ask(language, '[[plan:stall]]', { isStream: true })
    const received = await untilSilent(answer)
    assert.match(received, /word2/)
    assert.doesNotMatch(received, /word3/)
  })

  test(`${name}: a call follows the words of its answer, and may stall or be cut in the middle of its arguments`, async () => {
    const script = '[[plan:shell]][[say:I will look.]][[command:echo hi]]'
    const whole = await (await ask(language, script)).json()
    assert.equal(language.text(whole), 'I will look.')
    assert.deepEqual(lastSeen().call?.arguments, { command: 'echo hi', wait: 1 })
    const stalled = await untilSilent(await ask(language, `${script}[[arguments:stall]]`, { isStream: true }))
    assert.match(stalled, /ok\./)
    assert.doesNotMatch(stalled, /echo hi/)
    assert.equal(lastSeen().usage, undefined)
    const cut = await ask(language, `${script}[[arguments:drop]]`, { isStream: true })
    await assert.rejects(cut.text(), /terminated/)
    assert.equal((await over(lastSeen())).closedEarly, true)
  })
}

const twoTurns = (second: string): Body => ({
  model: 'm',
  messages: [
    { role: 'user', content: 'The word is plum. [[plan:text]]' },
    { role: 'assistant', content: [{ type: 'text', text: 'Done.' }] },
    { role: 'user', content: second },
  ],
})

test('a second turn can tell what the first one said', async () => {
  const whole = await (await post('/v1/messages', twoTurns('[[plan:recall]] Which word?'))).json()
  assert.equal(dig(whole, 'content', 0, 'text'), 'You said first: The word is plum.')
})

test('each turn follows its own script: one without a script has the default plan', async () => {
  await post('/v1/messages', { ...twoTurns('again'), tools: [{ name: 'Write', input_schema: writeSchema }] })
  assert.deepEqual([lastSeen().step, lastSeen().prompt], ['write', 'again'])
})

test('a note of the harness alone starts no work', async () => {
  const body = twoTurns('<task-notification>done</task-notification>')
  await post('/v1/messages', { ...body, tools: [{ name: 'Write', input_schema: writeSchema }] })
  assert.equal(lastSeen().step, 'text')
})

test('a request that gets no answer stays open until the client leaves', async () => {
  const leaving = new AbortController()
  const answer = post('/v1/messages', { messages: [{ role: 'user', content: '[[plan:hang]]' }] }, { signal: leaving.signal })
  await assert.rejects(Promise.race([answer, delay(200).then(() => Promise.reject(new Error('no answer yet')))]), /no answer yet/)
  const seen = lastSeen()
  assert.equal(seen.isOver, false)
  leaving.abort()
  await assert.rejects(answer, /abort/)
  await over(seen)
  assert.deepEqual([seen.closedEarly, seen.status], [true, undefined])
})

test('arguments come in as many pieces as the script says', async () => {
  const all = await events(await ask(languages.chat, '[[plan:shell]][[command:echo hello]][[pieces:8]]', { isStream: true }))
  const pieces = texts(all.map((event) => dig(event, 'choices', 0, 'delta', 'tool_calls', 0, 'function', 'arguments')))
  assert.equal(pieces.length, 8)
  assert.deepEqual(JSON.parse(pieces.join('')), lastSeen().call?.arguments)
})

test('slow text comes over time', async () => {
  const started = performance.now()
  const answer = await ask(languages.chat, '[[plan:slow]] [[delay:20]]', { isStream: true })
  assert.equal(languages.chat.deltas(await events(answer)).length, 100)
  assert.ok(performance.now() - started > 1_000)
})

test('a request records who asked, and as what', async () => {
  const headers = { authorization: 'Bearer one', 'x-api-key': 'two', 'x-goog-api-key': 'three', 'user-agent': 'tester/1' }
  await post('/v1beta/models/some-model:generateContent?key=four', languages.gemini.body('x'), { headers })
  const { credentials, userAgent, model: asked, method, path, kind } = lastSeen()
  assert.deepEqual(
    credentials.map(({ value }) => value),
    ['Bearer one', 'two', 'three', 'four'],
  )
  assert.deepEqual([userAgent, asked, method, kind], ['tester/1', 'some-model', 'POST', 'gemini'])
  assert.equal(path, '/v1beta/models/some-model:generateContent?key=four')
})

test('tokens are counted, models listed, anything else is not there', async () => {
  assert.equal(dig(await (await post('/v1/messages/count_tokens', {})).json(), 'input_tokens'), 1200)
  assert.equal(dig(await (await post('/v1beta/models/m:countTokens', {})).json(), 'totalTokens'), 1200)
  assert.ok(Array.isArray(dig(await (await fetch(`${model.url}/v1/models`)).json(), 'data')))
  assert.equal((await post('/v1/embeddings', {})).status, 404)
  assert.equal((await fetch(`${model.url}/v1/messages`, { method: 'POST', body: 'not json' })).status, 400)
})

test('a WebSocket is refused', async () => {
  const status = await new Promise((resolve, reject) => {
    const headers = { connection: 'Upgrade', upgrade: 'websocket' }
    http.get(`${model.url}/v1/responses`, { headers }, ({ statusCode }) => resolve(statusCode)).on('error', reject)
  })
  assert.equal(status, 404)
  assert.equal(lastSeen().kind, 'upgrade')
})

test('tools that take free text get a patch or a program', async () => {
  const tools = (name: string): Body => ({ tools: [{ type: 'custom', name }], input: [{ role: 'user', content: '[[plan:write]]' }] })
  await post('/v1/responses', tools('apply_patch'))
  assert.match(String(lastSeen().call?.arguments), /\*\*\* Add File: hello\.txt\n\+hello from/)
  await post('/v1/responses', tools('exec'))
  assert.match(String(lastSeen().call?.arguments), /tools\.exec_command\(\{"cmd":"printf/)
})

test('words that are looked for are found in the whole request, but not in directives', async () => {
  const asking = (more: string): Promise<Response> =>
    post('/v1/messages', { messages: [{ role: 'user', content: `[[find:plum]] ${more}` }] })
  await asking('nothing')
  assert.equal(lastSeen().hasFound, false)
  await asking('a plum')
  assert.equal(lastSeen().hasFound, true)
})

test('a sub-agent that has to end by a call does', async () => {
  const schema = { type: 'object', properties: { result: { type: 'string' } }, required: ['result'] }
  const tools = [{ functionDeclarations: [{ name: 'complete_task', parameters: schema }] }]
  const contents = [{ role: 'user', parts: [{ text: '[[plan:text]] [[reply:All is done.]]' }] }]
  await post('/v1beta/models/m:generateContent', { tools, contents })
  assert.deepEqual(lastSeen().call, { name: 'complete_task', arguments: { result: 'All is done.' } })
})

test('an answer that has to be JSON fits its schema', async () => {
  const schema = { type: 'object', properties: { title: { type: 'string' }, kind: { enum: ['a', 'b'] } }, required: ['title', 'kind'] }
  const body = { messages: [{ role: 'user', content: 'x' }], response_format: { json_schema: { schema } } }
  const whole = await (await post('/v1/chat/completions', body)).json()
  assert.deepEqual(JSON.parse(String(languages.chat.text(whole))), { title: 'scripted', kind: 'a' })
})

test('closing ends what is still open', async () => {
  const other = await startScriptedModel()
  const open = fetch(`${other.url}/v1/messages`, {
    method: 'POST',
    body: JSON.stringify({ messages: [{ role: 'user', content: '[[plan:hang]]' }] }),
  })
  while (other.requests.length === 0) await delay(5)
  await Promise.all([other.close(), assert.rejects(open)])
})
