// What every harness must do, asked of the real program in a real sidecar, with a model that plays scripts.
import assert from 'node:assert/strict'
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { AgentErrorCode, AgentEvent, AgentRun } from '@atoll/protocol'
import { harnessFolder } from '../../../tests/harness-folder.ts'
import { type ScriptedModel, startScriptedModel } from '../../scripted-model/server.ts'
import { until } from '../sidecar-process.ts'
import { type AgentClient, assertWhole, processesOf, startAgentSidecar, told } from './agent-client.ts'

/** Where the programs of the harnesses are. ATOLL_HARNESS_PROGRAMS names another folder. */
export const programs = process.env['ATOLL_HARNESS_PROGRAMS'] ?? path.join(await harnessFolder(), 'bin')

export interface HarnessContract {
  readonly id: string
  /** Undefined: it needs none. */
  readonly program?: string
  /** Whether it asks a model, and not only does what a script says. */
  readonly asksModel?: boolean
  /** How it reaches a model. */
  readonly credentials: (url: string) => Record<string, string>
  readonly model?: string
  /** A model that every tool is offered to, where others have to look for some. */
  readonly plainModel?: string
  /** Whether it shows nothing of a call before it has all the arguments. */
  readonly hidesArguments?: boolean
  /** Where in the home it keeps its conversations. */
  readonly sessions?: string
}

interface Performed {
  readonly run: AgentRun
  readonly events: readonly AgentEvent[]
}

const failures: readonly (readonly [step: string, code: AgentErrorCode])[] = [
  ['err401', 'auth'],
  ['err404', 'model_not_found'],
  ['err429', 'rate_limit'],
  ['err500', 'server'],
  ['drop', 'network'],
  ['stall', 'network'],
  ['hang', 'network'],
]

export function harnessContract({
  id,
  program,
  credentials,
  model = 'scripted',
  plainModel = model,
  hidesArguments = false,
  asksModel = true,
  sessions,
}: HarnessContract): void {
  const isThere = program === undefined || existsSync(path.join(programs, program))
  describe(`the harness ${id}`, { skip: isThere ? false : `${program} is not in ${programs}` }, () => {
    let agents: AgentClient
    let server: ScriptedModel
    let mcp: Record<string, { command: string; args: string[]; env: Record<string, string> }>

    before(async () => {
      server = await startScriptedModel()
      agents = await startAgentSidecar({ env: { ATOLL_HARNESS_PROGRAMS: programs } })
      await agents.configure({ agents: credentials(server.url) })
      const folder = path.join(agents.sidecar.folder, 'mcp')
      mkdirSync(folder)
      const script = path.join(folder, 'server.mjs')
      copyFileSync(path.join(import.meta.dirname, 'mcp-server.mjs'), script)
      chmodSync(script, 0o644)
      const command = 'exec "$0" "$1" "$LAB_WORD"'
      mcp = { lab: { command: '/bin/sh', args: ['-c', command, path.join(programs, 'node'), script], env: { LAB_WORD: 'plover' } } }
    })
    after(async () => {
      await agents?.sidecar[Symbol.asyncDispose]()
      await server?.close()
    })

    const request = (prompt: string, more: object = {}) => ({ harness: id, model, prompt, timeout_ms: 60_000, ...more })
    const assertUsage = ({ run: { usage }, events }: Performed, seq: number): void => {
      const said = told(events, 'usage').filter(({ scope }) => scope === 'step')
      const counted = asksModel ? server.requests.flatMap((seen) => (seen.seq > seq && seen.usage ? [seen.usage] : [])) : said
      assert.ok(counted.length > 0)
      for (const kind of ['input', 'output', 'cache_read', 'cache_write'] as const) {
        assert.equal(
          usage?.[kind],
          counted.reduce((sum, one) => sum + one[kind], 0),
          kind,
        )
      }
    }
    const lastSeq = (): number => server.requests.at(-1)?.seq ?? -1

    test('writes a file by its own tool, streams, and counts the tokens that the model counts', async () => {
      const seq = lastSeq()
      const { run, events } = await agents.perform(
        request('[[plan:write,text]][[think]][[content:hello from the script]][[reply:It is all done.]] make hello'),
      )
      const end = assertWhole(events)
      assert.equal(end.outcome, 'completed', JSON.stringify(end))
      assert.equal(readFileSync(path.join(agents.sidecar.workspace, 'hello.txt'), 'utf8').trim(), 'hello from the script')
      assert.ok(told(events, 'file.changed').some(({ path: file, change }) => file === 'hello.txt' && change === 'add'))
      assert.equal(told(events, 'file.changed').length, 1)
      const deltas = told(events, 'text.delta')
      assert.ok(deltas.length >= 2, `${deltas.length} deltas`)
      const said = told(events, 'text.done').at(-1)?.text
      assert.equal(
        deltas
          .filter(({ message_id }) => message_id === deltas.at(-1)?.message_id)
          .map(({ text }) => text)
          .join(''),
        said,
      )
      assert.equal(end.text, said)
      assert.match(said ?? '', /all done/)
      assert.ok(told(events, 'reasoning.delta').length > 0)
      assert.equal(told(events, 'tool.finished')[0]?.status, 'ok')
      assertUsage({ run, events }, seq)
      assert.equal(told(events, 'usage').filter(({ scope }) => scope === 'run').length, 1)
    })

    test('goes on with a conversation in another process, and remembers', async () => {
      const first = await agents.perform(request('[[plan:text]] the word is quokka'))
      assertWhole(first.events)
      const seq = lastSeq()
      const second = await agents.perform(request('[[plan:recall]] which word?', { session_id: first.run.session_id }))
      assert.equal(assertWhole(second.events).outcome, 'completed', JSON.stringify(second.events.at(-1)))
      assert.match(second.run.text ?? '', /quokka/)
      assertUsage(second, seq)
    })

    test('leaves no process when it is cancelled while a command runs, and its conversation goes on', async () => {
      const started = await agents.start(request('[[plan:sleep,text]] wait'))
      const isRunning = (event: AgentEvent): boolean => event.type === 'tool.started' && event.kind === 'shell'
      let cancelled: Promise<unknown> | undefined
      let at = 0
      const events = await agents.follow(started.id, {
        onEvent: async (event) => {
          if (!isRunning(event) || cancelled) return
          await until('the command runs', () => processesOf(started.id).some((line) => line.includes('tick')))
          at = Date.now()
          cancelled = agents.cancel(started.id)
        },
      })
      const tookMs = Date.now() - at
      await cancelled
      assert.equal(assertWhole(events).outcome, 'cancelled', JSON.stringify(events.at(-1)))
      assert.deepEqual(processesOf(started.id), [])
      assert.ok(tookMs < 3000, `it took ${tookMs} ms`)
      const next = await agents.perform(request('[[plan:text]] and now?', { session_id: started.session_id }))
      assert.equal(assertWhole(next.events).outcome, 'completed', JSON.stringify(next.events.at(-1)))
    })

    for (const [step, code] of failures) {
      test(`tells of ${step} as ${code} within 20 s`, async () => {
        const seq = lastSeq()
        const startedAt = Date.now()
        const { run, events } = await agents.perform(request(`[[plan:${step}]] try`))
        const endedAt = Date.now()
        assertWhole(events)
        assert.deepEqual([run.outcome, run.error?.code], ['failed', code], JSON.stringify(run.error))
        // From the first failure on: how fast a harness starts is the machine's affair.
        const failedAt = server.requests.find((seen) => seen.seq > seq)?.at.getTime() ?? startedAt
        assert.ok(endedAt - failedAt < 20_000, `it took ${endedAt - failedAt} ms`)
        const status = /^err(\d+)$/.exec(step)?.[1]
        // Where the harness tells it.
        if (status && run.error?.http_status !== undefined) assert.equal(run.error.http_status, Number(status))
      })
    }

    test('tells that a model cannot be reached as network within 20 s', {
      skip: asksModel ? false : 'it asks none',
    }, async () => {
      const at = Date.now()
      const { run, events } = await agents.perform(request('[[plan:text]] try', { env_json: credentials('http://127.0.0.1:1') }))
      const tookMs = Date.now() - at
      assertWhole(events)
      assert.deepEqual([run.outcome, run.error?.code], ['failed', 'network'], JSON.stringify(run.error))
      assert.ok(tookMs < 20_000, `it took ${tookMs} ms`)
    })

    test('tells that it does not know the conversation any more', {
      skip: sessions ? false : 'where it keeps them is not said',
    }, async () => {
      const first = await agents.perform(request('[[plan:text]] hello'))
      await agents.sidecar.exec(`rm -r ${sessions}`, { cwd: agents.sidecar.home })
      const { run, events } = await agents.perform(request('[[plan:text]] and now?', { session_id: first.run.session_id }))
      assertWhole(events)
      assert.deepEqual([run.outcome, run.error?.code], ['failed', 'session_not_found'], JSON.stringify(run.error))
    })

    test('calls a tool of an MCP server', async () => {
      const { run, events } = await agents.perform(
        request('[[plan:mcp,text]][[text:xyzzy]] use it', { mcp_servers: mcp, model: plainModel }),
      )
      assertWhole(events)
      assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
      const [tool] = told(events, 'tool.started')
      assert.equal(tool?.kind, 'mcp', JSON.stringify(tool))
      assert.match(told(events, 'tool.finished')[0]?.output ?? '', /heard xyzzy plover/)
    })

    test('says which MCP server does not work, and goes on without it', async () => {
      const broken = { broken: { command: '/bin/false', args: [], env: {} } }
      const { run, events } = await agents.perform(request('[[plan:mcp,text]] use it', { mcp_servers: broken, model: plainModel }))
      assertWhole(events)
      assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
      const said = told(events, 'mcp.status').map(({ name, status }) => [name, status])
      assert.deepEqual(said.at(-1), ['broken', 'failed'], JSON.stringify(events))
    })

    test('loads a skill', async () => {
      const skills = { labskill: { description: 'What to do about plovers.', content: 'Plovers eat quinces.' } }
      const { run, events } = await agents.perform(request('[[plan:skill,text]][[skillname:labskill]] use it', { skills }))
      assertWhole(events)
      assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
      const [tool] = told(events, 'tool.finished')
      assert.equal(tool?.status, 'ok', JSON.stringify(events))
      assert.match(tool?.output ?? '', /quinces|labskill/)
      const other = await agents.perform(request('[[plan:skill,text]][[skillname:labskill]] is it there?'))
      assert.equal(told(other.events, 'tool.finished')[0]?.status, 'error', 'it is there without being given')
    })

    test('runs a subagent', async () => {
      const subagents = { labagent: { description: 'Does what the lab needs.', prompt: 'You are the lab agent.' } }
      const seq = lastSeq()
      const { run, events } = await agents.perform(
        request('[[plan:sub,text]][[agentname:labagent]] use it', { subagents, model: plainModel }),
      )
      assertWhole(events)
      assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
      const [tool] = told(events, 'tool.started')
      assert.equal(tool?.kind, 'subagent', JSON.stringify(tool))
      if (asksModel) assert.ok(server.requests.some(({ prompt }) => prompt?.includes('a task for the sub-agent')))
      else assert.match(told(events, 'tool.finished')[0]?.output ?? '', /You are the lab agent/)
      assertUsage({ run, events }, seq)
    })

    for (const decision of ['allow_once', 'reject'] as const) {
      test(`asks before it uses a tool, and heeds ${decision}`, async () => {
        const file = `asked-${decision}.txt`
        const { id: runId } = await agents.start(request(`[[plan:write,text]][[file:${file}]] ask me`, { permission_mode: 'ask' }))
        const events = await agents.follow(runId, {
          onEvent: async (event) => {
            if (event.type === 'permission.requested') await agents.permit(runId, event.request_id, decision)
          },
        })
        const end = assertWhole(events)
        assert.ok(told(events, 'permission.requested').length >= 1)
        assert.equal(existsSync(path.join(agents.sidecar.workspace, file)), decision === 'allow_once')
        assert.equal(told(events, 'tool.finished')[0]?.status, decision === 'allow_once' ? 'ok' : 'denied', JSON.stringify(events))
        assert.notEqual(end.outcome, 'failed', JSON.stringify(end))
      })
    }

    test('ends after as many answers as it may take, whatever there was in earlier turns', async () => {
      const plan = (steps: string): string => `[[plan:${steps}]][[command:sleep 0.2; echo again]] work`
      const enough = await agents.perform(request(plan('shell,text'), { max_turns: 2 }))
      assert.equal(assertWhole(enough.events).outcome, 'completed', JSON.stringify(enough.run))
      const seq = lastSeq()
      const more = { max_turns: 2, session_id: enough.run.session_id }
      const { run, events } = await agents.perform(request(plan('shell,shell,shell,shell,text'), more))
      assertWhole(events)
      assert.deepEqual([run.outcome, run.error], ['max_turns', null], JSON.stringify(run))
      // Who has no limit of its own is stopped when it begins something more, be that of its last answer or of one too many.
      const done = told(events, 'tool.finished').filter(({ status }) => status === 'ok').length
      assert.ok(done >= 1 && done <= 3, `${done} commands`)
      const asked = server.requests.filter((seen) => seen.seq > seq && seen.step).length
      if (asksModel) assert.ok(asked === 2 || asked === 3, `the model was asked ${asked} times`)
    })

    test('tells that a model fell silent in the middle of the arguments of a call', async () => {
      const silenceMs = 4000
      const env = { env_json: { ATOLL_MODEL_SILENCE_MS: String(silenceMs) } }
      const { run, events } = await agents.perform(request('[[plan:write]][[say:I will write it.]][[arguments:stall]] try', env))
      assertWhole(events)
      assert.deepEqual([run.outcome, run.error?.code], ['failed', 'network'], JSON.stringify(run.error))
      assert.match(run.error?.message ?? '', new RegExp(`silent for ${silenceMs * (hidesArguments ? 10 : 1)} ms`))
    })

    test('waits for the arguments of a call while they come', async () => {
      const prompt = '[[plan:write,text]][[say:I will write it.]][[file:long.txt]][[pieces:12]][[delay:800]] take your time'
      const { run, events } = await agents.perform(request(prompt, { env_json: { ATOLL_MODEL_SILENCE_MS: '4000' } }))
      assertWhole(events)
      assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
      assert.ok(existsSync(path.join(agents.sidecar.workspace, 'long.txt')))
    })

    for (const beginning of ['/help', '/usr/bin/env', '$HOME']) {
      test(`takes a prompt that begins with ${beginning} for nothing but a prompt`, async () => {
        const seq = lastSeq()
        const { run } = await agents.perform(request(`${beginning} [[plan:text]] is what I say`))
        assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
        const prompts = asksModel ? server.requests.flatMap((seen) => (seen.seq > seq ? (seen.prompt ?? []) : [])) : [run.text ?? '']
        assert.ok(
          prompts.some((prompt) => prompt.includes(`${beginning} `) && prompt.includes(' is what I say')),
          JSON.stringify([prompts, run.text]),
        )
      })
    }

    test('tells no credential that a command of it prints', { skip: asksModel ? false : 'it needs none' }, async () => {
      const names = Object.keys(credentials(server.url)).filter((name) => !/URL$/.test(name))
      const { run, events } = await agents.perform(request(`[[plan:shell,text]][[command:printenv ${names.join(' ')}]] look`))
      assertWhole(events)
      assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
      const values = names.map((name) => credentials(server.url)[name] ?? '')
      assert.ok(values.every((value) => !JSON.stringify([run, events]).includes(value)))
    })

    test('keeps prompt and credentials out of the arguments, and the credentials from commands of the user', async () => {
      const started = await agents.start(request('[[plan:sleep,text]] a-word-of-the-prompt'))
      await until('it runs a command', () => processesOf(started.id).some((line) => line.includes('tick')))
      const lines = processesOf(started.id).join('\n')
      await agents.cancel(started.id)
      assert.doesNotMatch(lines, /a-word-of-the-prompt/)
      for (const [name, value] of Object.entries(credentials(server.url))) {
        if (/URL$/.test(name)) continue
        assert.ok(!lines.includes(value), `${name} is in an argument`)
        assert.equal((await agents.sidecar.exec(`printenv ${name}`)).stdout, '')
      }
    })
  })
}
