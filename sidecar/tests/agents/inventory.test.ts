import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import type { AgentSession, SandboxHarness } from '@atoll/protocol'
import { type AgentClient, startAgentSidecar } from './agent-client.ts'

// Programs that are there and do not work.
const manifest = {
  generation: 1,
  harnesses: [
    { id: 'codex', version: '1.2.3', mcp: true, skills: false, subagents: true },
    { id: 'claude-code', version: '4.5.6', mcp: true, skills: true, subagents: true },
  ],
}
const claudeKey = { ANTHROPIC_API_KEY: 'key-of-anthropic' }
const codexKey = { OPENAI_API_KEY: 'key-of-openai' }

const folder = `/tmp/atoll-inventory-${process.pid}`
let agents: AgentClient
before(async () => {
  mkdirSync(folder)
  for (const program of ['claude', 'codex']) writeFileSync(path.join(folder, program), '#!/bin/sh\nexit 9\n', { mode: 0o755 })
  writeFileSync(path.join(folder, 'harnesses.json'), JSON.stringify(manifest))
  agents = await startAgentSidecar({
    env: { ATOLL_HARNESS_PROGRAMS: folder, ATOLL_HARNESS_MANIFEST: path.join(folder, 'harnesses.json') },
  })
})
after(async () => {
  rmSync(folder, { recursive: true })
  await agents.sidecar[Symbol.asyncDispose]()
})

const list = async (): Promise<SandboxHarness[]> => (await agents.sidecar.json<{ harnesses: SandboxHarness[] }>('GET', '/agents')).harnesses

const ready = async (): Promise<string[]> => (await list()).flatMap(({ id, credentials_available }) => (credentials_available ? [id] : []))
const defaults = async (): Promise<string[]> => (await list()).flatMap(({ id, is_default }) => (is_default ? [id] : []))

test('harnesses stand in the order of the image, with what it says of them', async () => {
  await agents.configure({})
  const found = await list()
  assert.deepEqual(
    found.map(({ id, version }) => [id, version]),
    [
      ['codex', '1.2.3'],
      ['claude-code', '4.5.6'],
      ['echo', null],
    ],
  )
  assert.equal(found[0]?.skills, false)
  assert.deepEqual([await ready(), await defaults()], [['echo'], []])
})

test('the default is the first that can reach a model', async () => {
  await agents.configure({ agents: claudeKey })
  assert.deepEqual([await ready(), await defaults()], [['claude-code', 'echo'], ['claude-code']])
  await agents.configure({ agents: claudeKey, secrets: codexKey })
  assert.deepEqual(await defaults(), ['codex'])
  const session = await agents.sidecar.json<AgentSession>('POST', '/agents/sessions', { title: 'mine' })
  assert.deepEqual([session.title, session.harness, session.run_ids], ['mine', '', []])
})

test('a credential in a closed folder of the home counts', async () => {
  await agents.configure({})
  const closed = path.join(agents.sidecar.home, '.claude')
  mkdirSync(closed)
  writeFileSync(path.join(closed, '.credentials.json'), '{}')
  chmodSync(closed, 0o700)
  chownSync(closed, 1000, 1000)
  assert.deepEqual(await ready(), ['claude-code', 'echo'])
})

test('what is missing is named', async () => {
  await agents.configure({})
  const missing = await agents.refusal({ harness: 'gemini', prompt: 'x' })
  assert.deepEqual([missing.status, missing.code], [409, 'agent.harness_missing'])
  assert.match(missing.error, /codex, claude-code, echo/)
  const poor = await agents.refusal({ harness: 'codex', prompt: 'x' })
  assert.deepEqual([poor.status, poor.code], [402, 'agent.no_credentials'])
  assert.match(poor.error, /OPENAI_API_KEY or CODEX_API_KEY/)
})

test('a harness that dies without a word has failed, and the run ends once', async () => {
  await agents.configure({ agents: codexKey })
  const { run, events } = await agents.perform({ harness: 'codex', prompt: 'x' })
  assert.equal(events.filter(({ type }) => type === 'run.finished').length, 1)
  assert.deepEqual([run.outcome, run.error?.code], ['failed', 'lost'])
  assert.match(run.error?.message ?? '', /status 9/)
})

test('credentials that the image has in the home of root are given to the user, who keeps what is there already', async () => {
  await using sidecar = (
    await startAgentSidecar({
      env: { ATOLL_HARNESS_PROGRAMS: folder },
      prepare: async (place) => {
        for (const [file, content] of [
          ['root/.codex/auth.json', '{"of":"root"}'],
          ['root/.claude/.credentials.json', '{"of":"root"}'],
          ['home/.claude/settings.json', '{"of":"the user"}'],
        ] as const) {
          mkdirSync(path.dirname(path.join(place, file)), { recursive: true, mode: file.startsWith('root') ? 0o700 : 0o755 })
          writeFileSync(path.join(place, file), content, { mode: 0o600 })
        }
        for (const own of ['home', 'home/.claude', 'home/.claude/settings.json']) chownSync(path.join(place, own), 1000, 1000)
      },
    })
  ).sidecar
  const { stdout } = await sidecar.exec('cd ~; stat -c "%a %u %n" .codex/auth.json; cat .codex/auth.json; ls -A .claude')
  assert.equal(stdout, '600 1000 .codex/auth.json\n{"of":"root"}settings.json\n')
  const { harnesses } = await sidecar.json<{ harnesses: SandboxHarness[] }>('GET', '/agents')
  assert.ok(harnesses.some(({ id, credentials_available: has }) => id === 'codex' && has))
})
