// Any program that speaks ACP, tried with one that does: asked for by its command instead of by a name.
import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type ScriptedModel, startScriptedModel } from '../../scripted-model/server.ts'
import { type AgentClient, assertWhole, processesOf, startAgentSidecar, told } from './agent-client.ts'
import { programs } from './harness.contract.ts'

const isThere = existsSync(path.join(programs, 'kimi'))

describe('a program that speaks ACP', { skip: isThere ? false : `kimi is not in ${programs}` }, () => {
  let agents: AgentClient
  let server: ScriptedModel
  before(async () => {
    server = await startScriptedModel()
    agents = await startAgentSidecar({ env: { ATOLL_HARNESS_PROGRAMS: programs } })
  })
  after(async () => {
    await agents?.sidecar[Symbol.asyncDispose]()
    await server?.close()
  })

  const request = (prompt: string, more: object = {}) => ({
    harness: 'acp:kimi acp',
    prompt,
    timeout_ms: 60_000,
    env_json: {
      KIMI_MODEL_NAME: 'scripted',
      KIMI_MODEL_API_KEY: 'scripted-key',
      KIMI_MODEL_BASE_URL: `${server.url}/v1`,
      KIMI_DISABLE_TELEMETRY: '1',
      KIMI_CODE_NO_AUTO_UPDATE: '1',
    },
    ...more,
  })

  test('writes a file, streams, and goes on with its conversation in another process', async () => {
    const { run, events } = await agents.perform(request('[[plan:write,text]] the word is quokka'))
    assert.equal(assertWhole(events).outcome, 'completed', JSON.stringify(events.at(-1)))
    assert.equal(readFileSync(path.join(agents.sidecar.workspace, 'hello.txt'), 'utf8'), 'hello from the scripted model\n')
    assert.ok(told(events, 'text.delta').length >= 2)
    assert.equal(told(events, 'tool.started')[0]?.kind, 'edit')
    const next = await agents.perform(request('[[plan:recall]] which word?', { session_id: run.session_id }))
    assert.match(next.run.text ?? '', /quokka/)
  })

  for (const decision of ['allow_once', 'reject'] as const) {
    test(`is asked for leave, and heeds ${decision}`, async () => {
      const file = `asked-${decision}.txt`
      const { id } = await agents.start(request(`[[plan:write,text]][[file:${file}]]`, { permission_mode: 'ask' }))
      const events = await agents.follow(id, {
        onEvent: async (event) => {
          if (event.type === 'permission.requested') await agents.permit(id, event.request_id, decision)
        },
      })
      assertWhole(events)
      assert.equal(told(events, 'tool.finished')[0]?.status, decision === 'allow_once' ? 'ok' : 'denied')
      assert.equal(existsSync(path.join(agents.sidecar.workspace, file)), decision === 'allow_once')
    })
  }

  test('is told the system prompt, and says what cannot be given to it', async () => {
    const skills = { labskill: { description: 'What to do about plovers.', content: 'Plovers eat quinces.' } }
    const { events } = await agents.perform(request('[[plan:text]] go', { system_prompt: 'Speak of plovers.', skills }))
    assertWhole(events)
    assert.ok(server.requests.some(({ prompt }) => prompt?.includes('Speak of plovers.')))
    assert.match(told(events, 'warning')[0]?.message ?? '', /skills/)
  })

  test('ends after as many answers as it may give, also with those of earlier turns', async () => {
    const plan = '[[plan:shell,shell,shell,text]][[say:Once more.]][[command:sleep 0.2; echo again]]'
    const first = await agents.perform(request('[[plan:shell,text]][[think]][[command:echo once]]', { max_turns: 2 }))
    assert.equal(assertWhole(first.events).outcome, 'completed', JSON.stringify(first.run))
    const { run, events } = await agents.perform(request(plan, { max_turns: 2, session_id: first.run.session_id }))
    assertWhole(events)
    assert.deepEqual([run.outcome, run.error, run.text], ['max_turns', null, 'Once more.'])
    assert.deepEqual(
      told(events, 'tool.finished').map(({ status }) => status),
      ['ok', 'ok'],
    )
  })

  test('is refused when it is not there, and fails when it does not speak the protocol', async () => {
    assert.equal((await agents.refusal(request('go', { harness: 'acp:no-such-program --acp' }))).code, 'agent.harness_missing')
    const { id } = await agents.start(request('go', { harness: 'acp:sh -c "echo something is wrong >&2; exit 3"' }))
    const end = assertWhole(await agents.follow(id))
    assert.deepEqual([end.outcome, end.error?.code], ['failed', 'lost'])
    assert.match(end.error?.message ?? '', /status 3.*something is wrong/)
    assert.deepEqual(processesOf(id), [])
  })

  test('has not completed what it was told to end, whatever it says', async () => {
    const program = path.join(agents.sidecar.workspace, 'obliging.mjs')
    writeFileSync(program, obliging)
    const harness = `acp:${path.join(programs, 'node')} ${program}`
    const silent = await agents.perform({ harness, prompt: 'go', env_json: { ATOLL_MODEL_SILENCE_MS: '500' } })
    assert.deepEqual([silent.run.outcome, silent.run.error?.code], ['failed', 'network'])
    const { id } = await agents.start({ harness, prompt: 'go' })
    let cancelled: Promise<unknown> | undefined
    const onEvent = ({ type }: { readonly type: string }): void => {
      if (type === 'session.linked') cancelled = agents.cancel(id)
    }
    await agents.follow(id, { onEvent })
    await cancelled
    assert.equal((await agents.view(id)).outcome, 'cancelled')
  })
})

/** Says nothing until it is cancelled, and then that its turn is over. */
const obliging = `
import { createInterface } from 'node:readline'
const answers = { initialize: { protocolVersion: 1, agentCapabilities: {} }, 'session/new': { sessionId: 'one' } }
let prompt
createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method } = JSON.parse(line)
  const answer = (to, result) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id: to, result }) + '\\n')
  if (method === 'session/prompt') prompt = id
  else if (method === 'session/cancel') answer(prompt, { stopReason: 'end_turn' })
  else answer(id, answers[method])
})`
