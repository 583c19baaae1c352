// The first journey through the SDK: create a sandbox, run a command in it, write and read a file, let an agent write one. Progress goes to standard error, the
// result as JSON to standard output.
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { runtimeNames } from '@atoll/protocol'
import { sidecarPaths } from '@atoll/protocol/sidecar'
import { Atoll, type Sandbox } from '@atoll/sdk'
import { scriptedEnvironment } from '../sidecar/scripted-model/environment.ts'

/** Marks what an earlier start has left, so that starts do not pile up sandboxes. */
const mark = { made_by: 'npm start' }
const greeting = 'Hello from your first sandbox.\n'
const command = '. /usr/lib/os-release; echo "I am $(id -un) in $(pwd), on $PRETTY_NAME, kernel $(uname -r)"'

const { values } = parseArgs({
  options: {
    url: { type: 'string', default: 'http://127.0.0.1:9090' },
    'key-file': { type: 'string', default: '/var/lib/atoll/admin-key' },
    runtime: { type: 'string' },
    once: { type: 'boolean', default: false },
  },
})

const say = (text: string): void => void process.stderr.write(`${text}\n`)

async function timed<T>(what: string, work: () => Promise<T>): Promise<{ result: T; ms: number }> {
  const startedAt = performance.now()
  const result = await work()
  const ms = Math.round(performance.now() - startedAt)
  say(`${String(ms).padStart(6)} ms  ${what}`)
  return { result, ms }
}

async function removeEarlier(atoll: Atoll): Promise<void> {
  const state = ['creating', 'running', 'stopped', 'ended'] as const
  for await (const sandbox of atoll.sandboxes.list({ metadata: mark, state })) await sandbox.delete()
}

/** A step is finished rather than broken off, so that the sandbox can be removed. */
const asked = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => asked.abort(new Error('Interrupted.')))

async function visit(sandbox: Sandbox): Promise<{ output: string; firstOutputAt: number; timings: Record<string, number> }> {
  asked.signal.throwIfAborted()
  const ran = await timed('run a command in it', () => sandbox.run(command))
  const firstOutputAt = Date.now()
  if (ran.result.exitCode !== 0) throw new Error(`The command ended with ${ran.result.exitCode}: ${ran.result.stderr}`)
  const written = await timed('write a file', () => sandbox.files.write('hello.txt', greeting))
  const read = await timed('read it back', () => sandbox.files.readText('hello.txt'))
  if (read.result !== greeting) throw new Error('The file that was read is not the one that was written.')
  asked.signal.throwIfAborted()
  const agent = await askAgent(sandbox)
  say(`\n${ran.result.stdout.trimEnd()}\nagent.txt: ${agent.text}`)
  const timings = { exec_ms: ran.ms, write_ms: written.ms, read_ms: read.ms, agent_ms: agent.ms }
  return { output: ran.result.stdout, firstOutputAt, timings }
}

/** A real agent where the sandbox has one, with a model that plays a script beside it; else the built-in echo. Neither needs a key. */
async function askAgent(sandbox: Sandbox): Promise<{ harness: string; ms: number; text: string }> {
  const harness = (await sandbox.agents.list()).find(({ id }) => id !== 'echo')?.id ?? 'echo'
  const told = 'An agent wrote this.'
  const isReal = harness !== 'echo'
  const prompt = isReal
    ? `Write agent.txt. [[plan:write,text]][[file:agent.txt]][[content:${told}]]`
    : `[[write:agent.txt|${told}]] It is written.`
  const env = isReal ? scriptedEnvironment(await startModel(sandbox)) : {}
  const { result, ms } = await timed(`let an agent write a file (${harness})`, () =>
    sandbox.agents.prompt(prompt, { harness, env, timeoutMs: 60_000, ...(isReal && { model: 'scripted' }) }),
  )
  if (result.outcome !== 'completed') throw new Error(`The agent ${harness} failed: ${result.error?.message ?? result.outcome}`)
  const text = (await sandbox.files.readText('agent.txt')).trim()
  if (text !== told) throw new Error('The file is not what the agent was told to write.')
  return { harness, ms, text }
}

/** Inside the sandbox, which reaches nothing else. */
async function startModel(sandbox: Sandbox): Promise<string> {
  const { harnesses } = sidecarPaths
  const model = await sandbox.processes.start([`${harnesses}/bin/node`, `${harnesses}/verify/scripted-model/main.ts`])
  for await (const output of model.output()) if (output.stream === 'stdout') return output.text.trim()
  throw new Error('The scripted model did not start.')
}

async function main(): Promise<void> {
  const atoll = new Atoll({ url: values.url, apiKey: readFileSync(values['key-file'], 'utf8').trim() })
  const runtime = runtimeNames.find((name) => name === values.runtime)
  await removeEarlier(atoll)
  const created = await timed(`create a sandbox (${runtime ?? 'default runtime'})`, () =>
    atoll.sandboxes.create({ name: 'first', metadata: mark, runtime }),
  )
  const sandbox = created.result
  let isWanted = false
  try {
    const { output, firstOutputAt, timings } = await visit(sandbox)
    asked.signal.throwIfAborted()
    isWanted = !values.once
    const removed = values.once ? await timed('delete it', () => sandbox.delete()) : undefined
    const all = { create_ms: created.ms, ...timings, ...(removed && { delete_ms: removed.ms }) }
    process.stdout.write(JSON.stringify({ sandbox: sandbox.name, timings: all, output, firstOutputAt }))
  } finally {
    if (!isWanted) await sandbox.delete()
  }
}

await main().catch((error: unknown) => {
  say(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
})
