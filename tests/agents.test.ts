// Agents through the operator's own door: runs, sessions, chats of the reference's clients, and what a crash leaves of them.
import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type AgentEvent, Atoll, Failure, type Sandbox } from '@atoll/sdk'
import { readEvents, type StreamEvent } from './events.ts'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'

const cli = fileURLToPath(new URL('../cli/src/main.ts', import.meta.url))
const clientOf = (operator: TestOperator, apiKey = operator.adminKey): Atoll => new Atoll({ url: operator.url, apiKey })
const refusedWith = (code: string) => (error: unknown) => error instanceof Failure && error.code === code

const sequenceOf = (events: readonly AgentEvent[]): number[] => events.flatMap((event) => (event.type === 'gap' ? [] : [event.seq]))
const counted = (events: readonly AgentEvent[]): number[] => events.map((_, index) => index + 1)

for (const { name: runtime, skip } of testRuntimes) {
  describe(`agents on ${runtime}`, { skip }, () => {
    let operator: TestOperator
    let sandbox: Sandbox
    before(async () => {
      operator = await startOperator({ runtime })
      sandbox = await clientOf(operator).sandboxes.create({ memoryMb: 512, diskGb: 1 })
    })
    after(() => operator[Symbol.asyncDispose]())

    test('a run streams its answer, writes a file, tells its usage and ends once', async () => {
      const events: AgentEvent[] = []
      const run = await sandbox.agents.prompt('[[write:note.txt|from the agent]] all of it is written', {
        harness: 'echo',
        onEvent: (event) => events.push(event),
      })
      assert.equal(run.outcome, 'completed')
      assert.equal(run.text, 'all of it is written')
      assert.equal(await sandbox.files.readText('note.txt'), 'from the agent')
      assert.deepEqual(sequenceOf(events), counted(events))
      assert.ok(events.filter(({ type }) => type === 'text.delta').length >= 2)
      assert.equal(events.filter(({ type }) => type === 'run.finished').length, 1)
      assert.ok(events.some((event) => event.type === 'usage' && event.scope === 'run'))
    })

    test('a second run of a session remembers, also after a stop of the sandbox', async () => {
      const first = await sandbox.agents.prompt('the word is sesame', { harness: 'echo' })
      await sandbox.stop()
      await assert.rejects(sandbox.agents.start('hello'), refusedWith('sandbox.not_running'))
      await sandbox.resume()
      const second = await sandbox.agents.prompt('[[recall]]', { sessionId: first.session_id })
      assert.match(second.text ?? '', /the word is sesame/)
      assert.ok((await sandbox.agents.sessions()).some(({ id, run_ids: runs }) => id === first.session_id && runs.length === 2))
      assert.match(await sandbox.agents.transcript(first.session_id), /the word is sesame/)
    })

    test('cancelling ends the run and every process it started, also one that left its group', async () => {
      const run = await sandbox.agents.start('[[shell:setsid sleep 7654 & sleep 7655]]', { harness: 'echo' })
      for await (const { type } of run.events()) if (type === 'tool.started') break
      const { outcome } = await run.cancel()
      assert.equal(outcome, 'cancelled')
      const { stdout } = await sandbox.exec("ps -eo args | grep -c '[s]leep 765' || true")
      assert.equal(stdout.trim(), '0')
      assert.equal((await run.cancel()).outcome, 'cancelled', 'and may be repeated')
    })

    test('a tool that must be asked for waits for its answer', async () => {
      const { text } = await sandbox.agents.prompt('[[ask]]', {
        harness: 'echo',
        permissionMode: 'ask',
        onPermission: () => 'allow_once',
      })
      assert.match(text ?? '', /The answer was allow_once/)
    })

    test('runs of one session keep their order, and those of several go on side by side', async () => {
      const slow = await sandbox.agents.start('[[sleep:400]] first', { harness: 'echo' })
      const next = await sandbox.agents.start('second', { sessionId: slow.sessionId })
      const other = await sandbox.agents.prompt('elsewhere', { harness: 'echo' })
      assert.equal(other.outcome, 'completed')
      assert.equal((await slow.refresh()).state, 'running')
      assert.equal((await next.refresh()).state, 'queued')
      for await (const _ of next.events());
      const [before, after] = [await slow.refresh(), await next.refresh()]
      assert.ok((before.finished_at ?? 0) <= (after.started_at ?? 0))
    })

    test('a sandbox that was made for an agent gives its prompts to that one', async () => {
      const made = await operator.newSandbox({ memory_mb: 256, agent_identifier: 'echo' })
      const base = `/api/sandboxes/${made}`
      const { body } = await operator.call('POST', `${base}/prompt`, { body: { message: 'hello' } })
      assert.equal((await operator.call('GET', `${base}/agents/runs/${body.run_id}`)).body.harness, 'echo')
      await operator.call('DELETE', base)
    })

    test('what cannot be done says why', async () => {
      const { agents } = sandbox
      await assert.rejects(agents.start('hello', { harness: 'nobody' }), refusedWith('agent.harness_unknown'))
      await assert.rejects(agents.start('hello', { sessionId: 'unknown' }), refusedWith('agent.session_not_found'))
      await assert.rejects(agents.get('unknown'), refusedWith('agent.run_not_found'))
      await assert.rejects(agents.start('   '), refusedWith('request.invalid'))
      await assert.rejects(agents.start('x'.repeat(1_100_000)), (error) => error instanceof Failure && error.status < 500)
      const failed = await agents.prompt('[[fail:rate_limit]]', { harness: 'echo' })
      assert.deepEqual([failed.outcome, failed.error?.code], ['failed', 'rate_limit'])
      const broken = await agents.prompt('[[throw]]', { harness: 'echo' })
      assert.deepEqual([broken.outcome, broken.error?.code], ['failed', 'internal'])
      assert.equal((await agents.prompt('a \u{10ffff} 𝕏 ﷽ ☃ ', { harness: 'echo' })).outcome, 'completed')
      const long = await agents.prompt('"'.repeat(1_000_000), { harness: 'echo' })
      assert.deepEqual([long.outcome, long.text?.length], ['completed', 1_000_000])
    })

    test('somebody else reaches none of it', async () => {
      const run = await sandbox.agents.start('mine', { harness: 'echo' })
      const key = await operator.newKey(`stranger-${runtime}`)
      const base = `/api/sandboxes/${sandbox.id}`
      for (const path of ['agents', 'agents/runs', `agents/runs/${run.id}`, `agents/runs/${run.id}/events`, 'live/chat/sessions']) {
        assert.equal((await operator.call('GET', `${base}/${path}`, { key })).status, 404, path)
      }
      const read = await operator.newKey('admin', 'read')
      assert.equal((await operator.call('POST', `${base}/prompt`, { key: read, body: { message: 'hi' } })).status, 403)
    })

    test('a chat of the reference’s clients has its messages, parts and events', async () => {
      const base = `/api/sandboxes/${sandbox.id}`
      const { body: chat } = await operator.call('POST', `${base}/live/chat/sessions`, { body: { title: 'A chat' } })
      // The head of the answer comes when the chat is followed.
      const following = chatEvents(await operator.fetch('GET', `${base}/live/chat/sessions/${chat.session_id}/stream`))
      const message = '[[shell:echo from a tool]] and that is all'
      const accepted = await operator.call('POST', `${base}/prompt`, {
        body: { message, session_id: chat.session_id, backend_type: 'echo', context_json: '{"system_prompt":"be brief"}' },
      })
      assert.equal(accepted.status, 202)
      assert.equal(accepted.body.accepted, true)
      const events = await following
      const names = events.map(({ event }) => event)
      for (const name of [
        'user_message',
        'run_queued',
        'run_started',
        'run_progress',
        'message.updated',
        'run_completed',
        'session.idle',
      ]) {
        assert.ok(names.includes(name), `${name} in ${names}`)
      }
      const parts = events.filter(({ event }) => event === 'message.part.updated').map(({ data }) => data.part)
      assert.ok(parts.some(({ type, state }) => type === 'tool' && state.status === 'completed' && state.output.includes('from a tool')))
      const { body: detail } = await operator.call('GET', `${base}/live/chat/sessions/${chat.session_id}`)
      assert.deepEqual(
        detail.messages.map(({ role, content }: { role: string; content: string }) => [role, content]),
        [
          ['user', message],
          ['assistant', 'and that is all'],
        ],
      )
      assert.equal(detail.runs[0].status, 'completed')
      assert.equal(detail.title, 'A chat')
      assert.equal((await operator.call('GET', `${base}/live/chat/sessions/nobody`)).status, 404)
      const removed = await operator.call('DELETE', `${base}/live/chat/sessions/${chat.session_id}`, { body: {} })
      assert.deepEqual(removed.body, { deleted: true, session_id: chat.session_id })
    })

    test('a chat tells at once what waits, a reader that comes back misses nothing, and a cancelled run says so', async () => {
      const chats = `/api/sandboxes/${sandbox.id}/live/chat/sessions`
      const { session_id: sid } = (await operator.call('POST', chats, { body: { title: 'New Chat' } })).body
      const prompt = async (message: string): Promise<string> => {
        const nothing = { model: null, context_json: '{"system_prompt":null}', timeout_ms: null }
        const body = { message, session_id: sid, backend_type: 'echo', ...nothing }
        return (await operator.call('POST', `/api/sandboxes/${sandbox.id}/prompt`, { body })).body.run_id
      }
      const cancel = (chat: string, run: string) => operator.call('POST', `${chats}/${chat}/runs/${run}/cancel`, { body: {} })
      const first = await prompt('[[shell:sleep 1.5; echo slept]] first')
      const second = await prompt('[[shell:sleep 60]] second')
      assert.equal((await cancel('nobody', second)).status, 404)
      const seen: StreamEvent[] = []
      const open = (headers: Record<string, string>) => operator.fetch('GET', `${chats}/${sid}/stream`, { headers })
      for await (const event of readInBits(open)) {
        seen.push(event)
        if (event.event === 'run_started' && event.data.id === second) void cancel(sid, second)
        if (event.event === 'session.error' && event.data.error.code === 'EXECUTION_CANCELLED') break
      }
      const names = seen.map(({ event, data }) => `${event} ${data.run_id ?? data.id ?? ''}`)
      assert.ok(names.indexOf(`user_message ${second}`) < names.indexOf(`run_completed ${first}`), names.join('\n'))
      const order = [first, second].flatMap((run) => [`user_message ${run}`, `run_started ${run}`])
      for (const name of [...order, `run_completed ${first}`, `run_cancel_requested ${second}`, `run_cancelled ${second}`]) {
        assert.ok(names.includes(name), `${name} in\n${names.join('\n')}`)
      }
      assert.equal((await operator.call('GET', `${chats}/${sid}`)).body.title, '[[shell:sleep 1.5; echo slept]] first')
    })

    test('a chat tells all that it has when nothing more comes for a while', async () => {
      const chats = `/api/sandboxes/${sandbox.id}/live/chat/sessions`
      const { session_id: sid } = (await operator.call('POST', chats, { body: { title: 'New Chat' } })).body
      const body = { message: '[[think:0]] [[think:600000]]', session_id: sid, backend_type: 'echo' }
      const { run_id: run } = (await operator.call('POST', `/api/sandboxes/${sandbox.id}/prompt`, { body })).body
      const thoughts = new Set<string>()
      // The second one comes right behind the first, and its run then says nothing for ten minutes.
      for await (const { event, data } of readEvents(await operator.fetch('GET', `${chats}/${sid}/stream`))) {
        if (event === 'message.part.updated' && data.part.type === 'reasoning') thoughts.add(data.part.id)
        if (thoughts.size === 2) break
      }
      await operator.call('POST', `${chats}/${sid}/runs/${run}/cancel`, { body: {} })
    })

    test('the command line shows a run, and cancels it at Ctrl-C', async () => {
      const prompt = (...args: string[]) => {
        const env = { ...process.env, ATOLL_URL: operator.url, ATOLL_API_KEY: operator.adminKey }
        return spawn(process.execPath, [cli, 'agent', 'prompt', sandbox.id, '--harness', 'echo', ...args], { env })
      }
      assert.deepEqual(await endOf(prompt('well then')), { code: 0, output: 'well then\n' })
      assert.equal((await endOf(prompt('[[fail:auth]]'))).code, 1)
      assert.equal((await endOf(prompt('hello', '--max-turns', 'many'))).code, 2)
      const long = prompt('--json', '[[shell:sleep 60]] late')
      long.stdout.on('data', (text) => String(text).includes('tool.started') && long.kill('SIGINT'))
      const { code, output } = await endOf(long)
      const last: AgentEvent = JSON.parse(output.trim().split('\n').at(-1) ?? '')
      assert.deepEqual([code, last.type === 'run.finished' && last.outcome], [130, 'cancelled'])
    })
  })

  test(`a run goes on over kill -9 of the operator, and its reader misses nothing (${runtime})`, { skip }, async () => {
    const first = await startOperator({ runtime })
    const sandbox = await clientOf(first).sandboxes.create({ memoryMb: 512, diskGb: 1 })
    const run = await sandbox.agents.start('[[shell:for i in $(seq 40); do echo line $i; sleep 0.05; done]] done', { harness: 'echo' })
    const seen: AgentEvent[] = []
    for await (const event of run.events()) {
      seen.push(event)
      if (seen.length === 8) break
    }
    await first.kill()
    await using second = await startOperator({ runtime, folder: first.folder })
    const again = await (await clientOf(second).sandboxes.get(sandbox.id)).agents.get(run.id)
    for await (const event of again.events({ cursor: sequenceOf(seen).at(-1) })) seen.push(event)
    assert.deepEqual(sequenceOf(seen), counted(seen))
    const output = seen.map((event) => (event.type === 'tool.updated' ? (event.output_delta ?? '') : '')).join('')
    assert.equal(output, Array.from({ length: 40 }, (_, index) => `line ${index + 1}\n`).join(''))
    assert.equal(seen.filter(({ type }) => type === 'run.finished').length, 1)
    assert.equal((await again.refresh()).outcome, 'completed')
  })
}

async function endOf(program: ChildProcessWithoutNullStreams): Promise<{ code: number | null; output: string }> {
  let output = ''
  program.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const [code] = await once(program, 'close')
  return { code, output }
}

/** Events of a chat up to the end of its first run. */
async function chatEvents(answer: Response): Promise<StreamEvent[]> {
  const events: StreamEvent[] = []
  for await (const event of readEvents(answer)) {
    events.push(event)
    if (event.event === 'session.idle') break
  }
  return events
}

/** Events of a chat for a reader that leaves after nine of them, in the middle of whatever is told, and comes back. */
async function* readInBits(open: (headers: Record<string, string>) => Promise<Response>): AsyncGenerator<StreamEvent> {
  let last: string | undefined
  for (;;) {
    let left = 9
    for await (const event of readEvents(await open(last === undefined ? {} : { 'last-event-id': last }))) {
      last = event.id ?? last
      yield event
      left -= 1
      if (left === 0) break
    }
  }
}
