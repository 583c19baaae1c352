import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { AgentEvent, AgentRun, AgentSession } from '@atoll/protocol'
import { until } from '../sidecar-process.ts'
import { AgentClient, assertWhole, processesOf, startAgentSidecar, told } from './agent-client.ts'

let agents: AgentClient
before(async () => {
  agents = await startAgentSidecar()
})
after(() => agents.sidecar[Symbol.asyncDispose]())

const echo = { harness: 'echo' }

test('a run streams its answer in pieces, sums its usage and ends once', async () => {
  const { run, events } = await agents.perform({ ...echo, prompt: 'one two three' })
  const end = assertWhole(events)
  assert.deepEqual([end.outcome, end.text], ['completed', 'one two three'])
  assert.ok(told(events, 'text.delta').length >= 3)
  assert.equal(
    told(events, 'text.delta')
      .map(({ text }) => text)
      .join(''),
    'one two three',
  )
  assert.deepEqual(
    told(events, 'usage').map(({ scope }) => scope),
    ['step', 'run'],
  )
  assert.deepEqual(
    [run.state, run.outcome, run.text, run.usage?.input, run.last_seq],
    ['finished', 'completed', 'one two three', 3, events.length],
  )
})

test('files that the harness and its commands change are told, by their path in the workspace', async () => {
  const { run, events } = await agents.perform({
    ...echo,
    prompt:
      '[[write:a/own.txt|hello]] [[shell:echo x > by-shell.txt; mkdir -p node_modules; echo y > node_modules/z]] [[sleep:200]] [[shell:rm by-shell.txt]]',
  })
  assertWhole(events)
  const shells = told(events, 'tool.started').filter(({ kind }) => kind === 'shell')
  assert.deepEqual(
    told(events, 'file.changed').map(({ path: file, change, tool_id }) => [
      file,
      change,
      shells.findIndex((tool) => tool.tool_id === tool_id),
    ]),
    [
      ['a/own.txt', 'add', -1],
      ['by-shell.txt', 'add', 0],
      ['by-shell.txt', 'delete', 1],
    ],
  )
  assert.equal(readFileSync(path.join(agents.sidecar.workspace, 'a/own.txt'), 'utf8'), 'hello')
  assert.equal(existsSync(`/tmp/atoll-run-${run.id}`), false)
  assert.doesNotMatch(agents.sidecar.log, /leftovers/)
})

test('a session remembers, and its transcript has every prompt and event', async () => {
  const first = await agents.perform({ ...echo, prompt: 'the word is plover' })
  const { session_id } = first.run
  const second = await agents.perform({ session_id, prompt: '[[recall]]' })
  assert.match(second.run.text ?? '', /plover/)
  const session = await agents.sidecar.json<AgentSession>('GET', `/agents/sessions/${session_id}`)
  assert.deepEqual([session.run_ids, session.active_run_id, session.title], [[first.run.id, second.run.id], null, 'the word is plover'])
  assert.equal(typeof session.native_session_id, 'string')
  const text = (await agents.sidecar.call('GET', `/agents/sessions/${session_id}/transcript`)).body.toString()
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.equal(lines.length, first.events.length + second.events.length + 2)
  assert.deepEqual(
    lines.filter(({ type }) => type === 'prompt').map(({ prompt }) => prompt),
    ['the word is plover', '[[recall]]'],
  )
  assert.deepEqual(await agents.sidecar.json('DELETE', `/agents/sessions/${session_id}`), { deleted: true, session_id })
  assert.equal((await agents.sidecar.call('GET', `/agents/runs/${first.run.id}`)).status, 404)
})

test('a cancelled run leaves no process, not even one that left its group and its parents', async () => {
  const started = await agents.start({
    ...echo,
    prompt: '[[shell:setsid nohup sleep 333 >/dev/null 2>&1 & (env -i sleep 334 &) ; sleep 335]]',
  })
  await until('the command runs', () => processesOf(started.id).length >= 3)
  const at = Date.now()
  const cancelled = await agents.cancel(started.id)
  assert.ok(Date.now() - at < 3000, `it took ${Date.now() - at} ms`)
  assert.deepEqual([cancelled.state, cancelled.outcome], ['finished', 'cancelled'])
  assert.deepEqual(processesOf(started.id), [])
  assert.equal((await agents.sidecar.exec('pgrep -f "^sleep 33[345]"')).stdout, '')
  const events = await agents.follow(started.id)
  assert.equal(assertWhole(events).outcome, 'cancelled')
  assert.equal(told(events, 'tool.finished')[0]?.status, 'cancelled')
  assert.deepEqual(await agents.cancel(started.id), cancelled)
})

test('what a tool detached lives on after a run that went well, and nothing else of it', async () => {
  const background = (seconds: number): string => `setsid nohup sleep ${seconds} >/dev/null 2>&1 & sleep 338 >/dev/null 2>&1 &`
  const { run } = await agents.perform({ ...echo, prompt: `[[shell:${background(337)}]] serving` })
  assert.equal(run.outcome, 'completed')
  assert.deepEqual(
    processesOf(run.id).map((line) => line.trim()),
    ['sleep 337'],
  )
  assert.deepEqual(readdirSync(`/tmp/atoll-run-${run.id}`), [])
  const failed = await agents.perform({ ...echo, prompt: `[[shell:${background(339)}]] [[fail:server]]` })
  assert.equal(failed.run.outcome, 'failed')
  assert.deepEqual(processesOf(failed.run.id), [])
  assert.equal(existsSync(`/tmp/atoll-run-${failed.run.id}`), false)
  await agents.sidecar.exec(`pkill -f '^sleep 337'; rmdir /tmp/atoll-run-${run.id}`)
})

test('a time-out, a failure and a harness that throws are ends with their types', async () => {
  const late = await agents.perform({ ...echo, prompt: '[[shell:sleep 60]]', timeout_ms: 300 })
  assert.deepEqual([late.run.outcome, late.run.error?.code], ['failed', 'timeout'])
  const limited = await agents.perform({ ...echo, prompt: '[[fail:rate_limit]]' })
  assert.deepEqual([limited.run.error?.code, limited.run.error?.retryable], ['rate_limit', true])
  const thrown = await agents.perform({ ...echo, prompt: '[[throw]]' })
  assert.deepEqual([thrown.run.outcome, thrown.run.error?.code], ['failed', 'internal'])
  for (const { events } of [late, limited, thrown]) assertWhole(events)
})

test('a model that says nothing has failed, and a run sets its own patience', async () => {
  const { run, events } = await agents.perform({ ...echo, prompt: '[[sleep:60000]]', env_json: { ATOLL_MODEL_SILENCE_MS: '500' } })
  assertWhole(events)
  assert.deepEqual([run.outcome, run.error?.code, run.error?.retryable], ['failed', 'network', true])
})

test('a model that thinks, or has begun to answer, may be silent for longer', async () => {
  await using quick = (await startAgentSidecar({ env: { ATOLL_MODEL_SILENCE_MS: '300' } })).sidecar
  const client = new AgentClient(quick)
  assert.equal((await client.perform({ ...echo, prompt: '[[think:1200]] a thought' })).run.outcome, 'completed')
  assert.equal((await client.perform({ ...echo, prompt: '[[sleep:1200]] nothing' })).run.error?.code, 'network')
  assert.equal((await client.perform({ ...echo, prompt: '[[shell:true]] [[sleep:1200]] after a tool' })).run.outcome, 'completed')
})

test('a question waits for its answer, and `always` holds for the rest of the session', async () => {
  const ask = async (decision: string, session_id = ''): Promise<{ run: AgentRun; events: AgentEvent[] }> => {
    const { id } = await agents.start({ ...echo, session_id, prompt: '[[ask:door]]' })
    const answer = async (event: AgentEvent): Promise<void> => {
      if (event.type !== 'permission.requested') return
      assert.equal((await agents.permit(id, 'nonesuch', decision)).code, 'agent.permission_not_found')
      assert.deepEqual(await agents.permit(id, event.request_id, decision), { success: true })
      assert.notEqual((await agents.permit(id, event.request_id, decision)).success, true)
    }
    const events = await agents.follow(id, { onEvent: answer })
    assertWhole(events)
    return { run: await agents.view(id), events }
  }
  const refused = await ask('reject')
  assert.match(refused.run.text ?? '', /reject/)
  assert.deepEqual(
    told(refused.events, 'permission.resolved').map(({ decision, by }) => [decision, by]),
    [['reject', 'caller']],
  )
  const { session_id } = (await ask('allow_always')).run
  const unasked = await ask('reject', session_id)
  assert.match(unasked.run.text ?? '', /allow_once/)
  assert.equal(told(unasked.events, 'permission.requested').length, 0)
  assert.equal((await agents.permit(unasked.run.id, 'x', 'reject')).code, 'agent.run_not_active')
})

test('a question that nobody answers ends with the run', async () => {
  const { run, events } = await agents.perform({ ...echo, prompt: '[[ask]]', timeout_ms: 200 })
  assertWhole(events)
  assert.equal(run.error?.code, 'timeout')
  assert.deepEqual(
    told(events, 'permission.resolved').map(({ decision, by }) => [decision, by]),
    [['reject', 'timeout']],
  )
})

test('one run at a time in a session, in order, and several sessions at once', async () => {
  const first = await agents.start({ ...echo, prompt: '[[sleep:300]] 0' })
  const { session_id } = first
  const rest: AgentRun[] = []
  for (const index of [1, 2, 3]) rest.push(await agents.start({ session_id, prompt: `[[sleep:20]] ${index}` }))
  const other = await agents.perform({ ...echo, prompt: 'elsewhere' })
  assert.equal(other.run.outcome, 'completed')
  assert.equal((await agents.view(first.id)).state, 'running')
  assert.deepEqual(
    rest.map(({ state }) => state),
    ['queued', 'queued', 'queued'],
  )
  assert.equal((await agents.sidecar.json('DELETE', `/agents/sessions/${session_id}`)).code, 'agent.run_active')
  const dropped = await agents.cancel(rest[1]?.id ?? '')
  assert.equal(dropped.outcome, 'cancelled')
  await agents.follow(rest[2]?.id ?? '')
  const views = await Promise.all([first, ...rest].map(({ id }) => agents.view(id)))
  assert.deepEqual(
    views.map(({ outcome }) => outcome),
    ['completed', 'completed', 'cancelled', 'completed'],
  )
  assert.ok((views[1]?.started_at ?? 0) >= (views[0]?.finished_at ?? Number.POSITIVE_INFINITY))
  assert.ok((views[3]?.started_at ?? 0) >= (views[1]?.finished_at ?? Number.POSITIVE_INFINITY))
})

test('only so many sessions work at once, and the others take their turn', async () => {
  await using few = (await startAgentSidecar({ env: { ATOLL_AGENT_RUNS: '2' } })).sidecar
  const client = new AgentClient(few)
  const started = await Promise.all([1, 2, 3].map((index) => client.start({ ...echo, prompt: `[[sleep:400]] ${index}` })))
  await until('two of them run', async () => {
    const states = await Promise.all(started.map(async ({ id }) => (await client.view(id)).state))
    return states.filter((state) => state === 'running').length === 2 && states.includes('queued')
  })
  for (const { id } of started) assert.equal(assertWhole(await client.follow(id)).outcome, 'completed')
})

test('200 prompts wait in a session, the next is refused, and none is lost', async () => {
  const first = await agents.start({ ...echo, prompt: '[[sleep:1500]] first' })
  const { session_id } = first
  const ids: string[] = []
  for (let index = 0; index < 200; index++) ids.push((await agents.start({ session_id, prompt: `number ${index}` })).id)
  const { status, code } = await agents.refusal({ session_id, prompt: 'one too many' })
  assert.deepEqual([status, code], [429, 'agent.too_many_runs'])
  await agents.follow(ids.at(-1) ?? '')
  const { runs } = await agents.sidecar.json<{ runs: AgentRun[] }>('GET', '/agents/runs')
  const texts = runs.filter((run) => run.session_id === session_id).map(({ text }) => text)
  assert.deepEqual(texts, [...ids.map((_, index) => `number ${index}`), 'first'].slice(0, 200).reverse().concat('first'))
})

test('a prompt of a megabyte and one of every Unicode plane come back as they went', async () => {
  const long = `${'x'.repeat(1024)}\n`.repeat(1023)
  const { run } = await agents.perform({ ...echo, prompt: long })
  assert.equal(run.prompt, long)
  assert.equal(run.text, long.trim())
  const planes = Array.from({ length: 17 }, (_, plane) => String.fromCodePoint(plane * 0x10000 + 0x100 + plane)).join(' ')
  const every = await agents.perform({ ...echo, prompt: planes })
  assert.equal(every.run.text, planes)
  assert.equal((await agents.view(every.run.id)).prompt, planes)
})

test('refusals say what is missing', async () => {
  const unknown = await agents.refusal({ harness: 'nonesuch', prompt: 'x' })
  assert.deepEqual([unknown.status, unknown.code], [400, 'agent.harness_unknown'])
  for (const [name, label] of Object.entries({ claude: 'Claude Code', kimi: 'Kimi Code', 'kimi-code': 'Kimi Code' })) {
    const missing = await agents.refusal({ harness: name, prompt: 'x' })
    assert.deepEqual([missing.status, missing.code], [409, 'agent.harness_missing'])
    assert.ok(missing.error.includes(label), missing.error)
  }
  const nobody = await agents.refusal({ prompt: 'x' })
  assert.deepEqual([nobody.status, nobody.code], [402, 'agent.no_credentials'])
  const nowhere = await agents.refusal({ ...echo, session_id: 'nonesuch', prompt: 'x' })
  assert.deepEqual([nowhere.status, nowhere.code], [404, 'agent.session_not_found'])
})

test('a secret is not told, not even in pieces', async () => {
  await agents.configure({ secrets: { TOKEN: 'abc"def-ghijkl-mnop' } })
  const { events } = await agents.perform({ ...echo, prompt: 'it is abc"def-ghijkl-mnop here [[shell:printf %s "$TOKEN"]]' })
  await agents.configure({})
  const end = assertWhole(events)
  assert.equal(end.text, 'it is [secret] here')
  assert.equal(
    told(events, 'text.delta')
      .map(({ text }) => text)
      .join(''),
    'it is [secret] here',
  )
  assert.equal(told(events, 'tool.finished')[0]?.output, '[secret]')
  assert.doesNotMatch(JSON.stringify(events.map((event) => ({ ...event }))), /ghijkl/)
})

test('events, answers and what waits outlive a sidecar that is killed', async () => {
  await using first = (await startAgentSidecar()).sidecar
  const before = new AgentClient(first)
  const done = await before.perform({ ...echo, prompt: 'done before' })
  const active = await before.start({ ...echo, prompt: '[[shell:sleep 336]]' })
  const waiting = await before.start({ session_id: active.session_id, prompt: 'waited' })
  await until('the command runs', () => processesOf(active.id).length > 0)
  const seen: AgentEvent[] = []
  const reading = before.follow(active.id, { onEvent: (event) => seen.push(event) }).catch(() => undefined)
  await delay(100)
  first.process.kill('SIGKILL')
  await reading
  const folder = first.folder
  await using second = (
    await startAgentSidecar({
      env: {
        ATOLL_STATE: path.join(folder, 'state'),
        ATOLL_HOME: path.join(folder, 'home'),
        ATOLL_WORKSPACE: path.join(folder, 'home/workspace'),
      },
    })
  ).sidecar
  const again = new AgentClient(second)
  assert.deepEqual(await again.follow(done.run.id), done.events)
  const rest = await again.follow(active.id, { cursor: seen.length })
  const end = assertWhole([...seen, ...rest])
  assert.deepEqual([end.outcome, end.error?.code], ['failed', 'lost'])
  await until('its processes are gone', () => processesOf(active.id).length === 0)
  assert.equal((await again.view(waiting.id)).state, 'queued')
  await again.configure({})
  assertWhole(await again.follow(waiting.id))
  assert.equal((await again.view(waiting.id)).text, 'waited')
})

test('a log keeps to its size, with the gap named, and old conversations make room for new ones', async () => {
  await using small = (await startAgentSidecar({ env: { ATOLL_RUN_LOG_BYTES: '300000', ATOLL_ALL_RUNS_BYTES: '700000' } })).sidecar
  const client = new AgentClient(small)
  const long = await client.perform({
    ...echo,
    prompt: '[[shell:for i in $(seq 300); do printf %04000d $i; sleep 0.001; done]]',
  })
  const late = await client.follow(long.run.id)
  const [gap] = late
  assert.ok(gap?.type === 'gap' && gap.from === 1)
  assert.deepEqual(
    late.slice(1).map((event) => event.type !== 'gap' && event.seq),
    late.slice(1).map((_, index) => gap.to + 1 + index),
  )
  const file = path.join(small.folder, 'state/agents', long.run.session_id, `${long.run.id}.jsonl`)
  assert.ok(readFileSync(file).length <= 700_000)
  for (let count = 0; count < 6; count++) await client.perform({ ...echo, prompt: 'y'.repeat(100_000) })
  assert.equal((await small.call('GET', `/agents/runs/${long.run.id}`)).status, 404)
  assert.ok(readdirSync(path.join(small.folder, 'state/agents')).length < 6)
})

test('a full disk takes old conversations first, and the end of a run last', async () => {
  const prepare = async (folder: string): Promise<void> => {
    mkdirSync(path.join(folder, 'state'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1000k', 'tmpfs', path.join(folder, 'state')])
  }
  await using full = (await startAgentSidecar({ prepare })).sidecar
  try {
    const client = new AgentClient(full)
    const old = await client.perform({ ...echo, prompt: 'z'.repeat(200_000) })
    const { run, events } = await client.perform({ ...echo, prompt: '[[shell:head -c 3000000 /dev/zero | tr "\\0" x]] after all' })
    assert.equal(run.outcome, 'completed')
    assert.equal(events.at(-1)?.type, 'run.finished')
    assert.equal((await full.call('GET', `/agents/runs/${old.run.id}`)).status, 404)
    const late = await client.follow(run.id)
    assert.ok(late.some(({ type }) => type === 'gap'))
    const end = late.at(-1)
    assert.ok(end?.type === 'run.finished' && end.outcome === 'completed')
    const refused = await client.refusal({ ...echo, prompt: 'q'.repeat(1_040_000) })
    assert.deepEqual([refused.status, refused.code], [507, 'file.disk_full'])
    assert.equal((await client.perform({ ...echo, prompt: 'still here' })).run.text, 'still here')
  } finally {
    full.process.kill('SIGKILL')
    await once(full.process, 'exit')
    execFileSync('umount', [path.join(full.folder, 'state')])
  }
})
