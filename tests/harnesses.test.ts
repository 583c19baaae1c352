// The real coding agents in real sandboxes, through the operator: an image built as its users build it, and a folder that is lent.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type AgentEvent, type AgentRunInfo, Atoll, type PromptOptions, type Sandbox } from '@atoll/sdk'
import { scriptedEnvironment } from '../sidecar/scripted-model/environment.ts'
import { testRuntimes } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'
import { startWithHarnesses } from './start-with-harnesses.ts'

/** Where the model is inside a sandbox, which reaches nothing else. */
const modelPort = 8787
const modelUrl = `http://127.0.0.1:${modelPort}`
const harnesses = '/opt/harnesses'

/** `plainModel`: one that every tool is offered to, where others have to look for some. */
const agents: readonly { readonly id: string; readonly model: string; readonly plainModel?: string }[] = [
  { id: 'claude-code', model: 'scripted' },
  { id: 'codex', model: 'gpt-5.5', plainModel: 'scripted' },
  { id: 'opencode', model: 'scripted' },
  { id: 'kimi-code', model: 'scripted' },
  { id: 'gemini', model: 'scripted' },
]

const failures = { err401: 'auth', err429: 'rate_limit', err500: 'server', drop: 'network', stall: 'network' } as const

interface Seen {
  readonly seq: number
  readonly prompt?: string
  readonly usage?: Readonly<Record<'input' | 'output' | 'cache_read' | 'cache_write', number>>
}

/** A file with the credentials, and the setting that names it. */
function credentialsIn(folder: string): Readonly<Record<string, string>> {
  const file = path.join(folder, 'agent-env')
  const lines = Object.entries(scriptedEnvironment(modelUrl)).map(([name, value]) => `${name}=${value}\n`)
  writeFileSync(file, lines.join(''), { mode: 0o600 })
  return { ATOLL_AGENT_ENV_FILE: file }
}

/** Two at a time: on a small machine more would only wait for one another, and seem silent. */
async function twoByTwo<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const left = [...items]
  const worker = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item)
  }
  await Promise.all([worker(), worker()])
}

const kindOf = <Type extends AgentEvent['type']>(events: readonly AgentEvent[], type: Type) =>
  events.filter((event): event is Extract<AgentEvent, { type: Type }> => event.type === type)

for (const { name: runtime, skip } of testRuntimes) {
  describe(`coding agents on ${runtime}`, { skip, timeout: 1_200_000 }, () => {
    let operator: TestOperator
    let sandbox: Sandbox
    before(
      async () => {
        operator = await startWithHarnesses(runtime, credentialsIn)
        const atoll = new Atoll({ url: operator.url, apiKey: operator.adminKey })
        sandbox = await atoll.sandboxes.create({ memoryMb: 6144, ports: [modelPort] })
        const program = [`${harnesses}/bin/node`, `${harnesses}/verify/scripted-model/main.ts`, '--port', String(modelPort)]
        await sandbox.processes.start(program)
        await sandbox.files.write('mcp-server.mjs', readFileSync(path.join(import.meta.dirname, '../sidecar/tests/agents/mcp-server.mjs')))
        while (!(await seen().catch(() => undefined)));
      },
      { timeout: 900_000 },
    )
    after(() => operator?.[Symbol.asyncDispose]())

    /** What the model was asked. */
    async function seen(): Promise<Seen[]> {
      const answer = await operator.fetch('GET', `/api/sandboxes/${sandbox.id}/port/${modelPort}/scripted/requests`)
      if (!answer.ok) throw new Error(`the model answered ${answer.status}`)
      return (await answer.json()) as Seen[]
    }

    async function perform(prompt: string, options: PromptOptions): Promise<{ run: AgentRunInfo; events: AgentEvent[] }> {
      const events: AgentEvent[] = []
      const run = await sandbox.agents.prompt(prompt, { timeoutMs: 120_000, ...options, onEvent: (event) => events.push(event) })
      assert.equal(kindOf(events, 'run.finished').length, 1)
      assert.deepEqual(
        events.map((event) => (event.type === 'gap' ? 0 : event.seq)),
        events.map((_, index) => index + 1),
      )
      return { run, events }
    }

    test('are those of the capabilities, each with credentials', async () => {
      const found = await sandbox.agents.list()
      const usable = found.filter(({ id, credentials_available: has }) => id !== 'echo' && has).map(({ id }) => id)
      assert.deepEqual(usable.sort(), agents.map(({ id }) => id).sort())
      assert.ok(found.find(({ is_default: isDefault }) => isDefault && found[0]?.id !== 'echo'))
    })

    for (const { id: harness, model, plainModel = model } of agents) {
      test(`${harness} writes a file, streams, remembers, and counts the tokens that the model counts`, async () => {
        const before = (await seen()).at(-1)?.seq ?? -1
        const file = `${harness}.txt`
        const { run, events } = await perform(`[[plan:write,text]][[file:${file}]] make it`, { harness, model })
        assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
        assert.match(await sandbox.files.readText(file), /hello from the scripted model/)
        assert.ok(kindOf(events, 'text.delta').length >= 2)
        const counted = (await seen()).flatMap(({ seq, usage }) => (seq > before && usage ? [usage] : []))
        for (const kind of ['input', 'output', 'cache_read', 'cache_write'] as const) {
          assert.equal(
            run.usage?.[kind],
            counted.reduce((sum, usage) => sum + usage[kind], 0),
            kind,
          )
        }
        const again = await perform('[[plan:recall]] what was it?', { sessionId: run.session_id, model })
        assert.match(again.run.text ?? '', /make it/)
      })

      test(`${harness} leaves what it detached, and nothing else`, async () => {
        const command = `[[command:(setsid nohup sleep 4321 >/dev/null 2>&1 &); sleep 0.2]]`
        const mcpServers = { lab: { command: `${harnesses}/bin/node`, args: ['/home/agent/workspace/mcp-server.mjs', 'plover'] } }
        const { run } = await perform(`[[plan:shell,text]]${command} serve`, { harness, model, mcpServers })
        assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
        // Those of the user who carry the mark of the run, by their command line.
        const left = await sandbox.exec(
          `grep -slz '^ATOLL_RUN_ID=${run.id}' /proc/[0-9]*/environ | xargs -n1 dirname | sed 's|$|/cmdline|' | xargs cat | tr '\\0' ' '`,
        )
        assert.equal(left.stdout.trim(), 'sleep 4321')
        await sandbox.exec("pkill -f '^sleep 4321'")
      })

      test(`${harness} is cancelled with all that it runs`, async () => {
        const run = await sandbox.agents.start('[[plan:sleep,text]] wait', { harness, model })
        for await (const event of run.events()) if (event.type === 'tool.started' && event.kind === 'shell') break
        const isTicking = async () => (await sandbox.exec("ps -eo args | grep -c '[t]ick' || true")).stdout.trim() !== '0'
        while (!(await isTicking()));
        const at = Date.now()
        assert.equal((await run.cancel()).outcome, 'cancelled')
        assert.equal(await isTicking(), false)
        assert.ok(Date.now() - at < 5000)
      })

      test(`${harness} tells what went wrong`, async () => {
        await twoByTwo(Object.entries(failures), async ([step, code]) => {
          const { run } = await perform(`[[plan:${step}]] try`, { harness, model })
          assert.deepEqual([step, run.outcome, run.error?.code], [step, 'failed', code], JSON.stringify(run.error))
        })
      })

      test(`${harness} calls a tool over MCP, loads a skill and runs a subagent`, async () => {
        const mcpServers = { lab: { command: `${harnesses}/bin/node`, args: ['/home/agent/workspace/mcp-server.mjs', 'plover'] } }
        const skills = { labskill: { description: 'What to do about plovers.', content: 'Plovers eat quinces.' } }
        const subagents = { labagent: { description: 'Does what the lab needs.', prompt: 'You are the lab agent.' } }
        const mcp = await perform('[[plan:mcp,text]][[text:xyzzy]] use it', { harness, model: plainModel, mcpServers })
        assert.match(kindOf(mcp.events, 'tool.finished')[0]?.output ?? '', /heard xyzzy plover/)
        const skill = await perform('[[plan:skill,text]][[skillname:labskill]] use it', { harness, model, skills })
        assert.match(kindOf(skill.events, 'tool.finished')[0]?.output ?? '', /quinces|labskill/)
        const subagent = await perform('[[plan:sub,text]][[agentname:labagent]] use it', { harness, model: plainModel, subagents })
        assert.equal(kindOf(subagent.events, 'tool.started')[0]?.kind, 'subagent')
        for (const { run } of [mcp, skill, subagent]) assert.equal(run.outcome, 'completed', JSON.stringify(run.error))
      })
    }

    test('go on over kill -9 of the operator, each event told once', async () => {
      const started = await Promise.all(
        agents.map(({ id: harness, model }) => sandbox.agents.start('[[plan:slow]] tell', { harness, model })),
      )
      const seenBefore = await Promise.all(
        started.map(async (run) => {
          const events: AgentEvent[] = []
          for await (const event of run.events()) {
            events.push(event)
            if (events.length === 2) break
          }
          return events
        }),
      )
      await operator.kill()
      operator = await startOperator({ runtime, folder: operator.folder })
      const atoll = new Atoll({ url: operator.url, apiKey: operator.adminKey })
      const same = await atoll.sandboxes.get(sandbox.id)
      for (const [index, run] of started.entries()) {
        const events = seenBefore[index] ?? []
        const again = await same.agents.get(run.id)
        for await (const event of again.events({ cursor: 2 })) events.push(event)
        assert.deepEqual(
          events.map((event) => (event.type === 'gap' ? 0 : event.seq)),
          events.map((_, at) => at + 1),
        )
        assert.equal((await again.refresh()).outcome, 'completed', run.info.harness)
      }
    })
  })
}
