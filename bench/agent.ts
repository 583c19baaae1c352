import { type AgentEvent, Failure, type Sandbox } from '@atoll/sdk'
import { scriptedEnvironment } from '../sidecar/scripted-model/environment.ts'
import { type Row, report, row } from './report.ts'
import type { Bench } from './subject.ts'

const modelPort = 8787
const harnesses = '/opt/harnesses'

/** Every harness finds the scripted model inside the sandbox. */
const env = scriptedEnvironment(`http://127.0.0.1:${modelPort}`)

interface Sample {
  /** From the call until the first event of the harness was read. */
  readonly wholeMs: number
  /** What of it passed before the harness's program was started, and between its event and the reader. */
  readonly oursMs: number
}

/** One prompt. All clocks are this machine's. */
async function sample(sandbox: Sandbox, harness: string): Promise<Sample> {
  const askedAt = Date.now()
  const run = await sandbox.agents.start('[[plan:text]] hello', { harness, model: 'scripted', env })
  let first: { readonly toldAt: number; readonly readAt: number } | undefined
  let end: Extract<AgentEvent, { type: 'run.finished' }> | undefined
  for await (const event of run.events()) {
    if (event.type === 'run.finished') end = event
    else if (event.type !== 'run.started' && event.type !== 'gap') first ??= { toldAt: event.at, readAt: Date.now() }
  }
  if (!first || end?.outcome !== 'completed') throw new Failure('internal', `${harness} did not complete: ${JSON.stringify(end?.error)}`)
  const startedAt = end.program_started_at ?? first.toldAt
  return { wholeMs: first.readAt - askedAt, oursMs: startedAt - askedAt + (first.readAt - first.toldAt) }
}

/** From a prompt to the first event of each harness: what Atoll adds to the program's own time. */
export const benchAgent: Bench = async ({ atoll, runtime, count, progress }) => {
  await using sandbox = await atoll.sandboxes.create({ memoryMb: 4096, runtime })
  const ids = (await sandbox.agents.list()).map(({ id }) => id).filter((id) => id !== 'echo')
  if (ids.length === 0) throw new Failure('agent.harness_missing', `The ${runtime} sandboxes of this operator have no harness to measure.`)
  const model = [`${harnesses}/bin/node`, `${harnesses}/verify/scripted-model/main.ts`, '--port', String(modelPort)]
  const process = await sandbox.processes.start(model)
  for await (const { stream } of process.output()) if (stream === 'stdout') break
  const rows: Row[] = []
  let worst = 0
  for (const [index, id] of ids.entries()) {
    // The first one finds an empty home and counts for none.
    await sample(sandbox, id)
    const samples: Sample[] = []
    for (let done = 0; done < count; done++) {
      samples.push(await sample(sandbox, id))
      progress(index * count + done + 1, ids.length * count)
    }
    const ours = row(
      `${id}: Atoll's part of it`,
      samples.map(({ oursMs }) => oursMs),
    )
    rows.push(
      row(
        `${id}: until its first event`,
        samples.map(({ wholeMs }) => wholeMs),
      ),
      ours,
    )
    worst = Math.max(worst, ours.p50)
  }
  return report({ bench: 'agent', runtime, count, rows, ratio: { of: "Atoll's largest part (p50) over 30 ms", value: worst / 30 } })
}
