// The sidecar's routes of agents.
import type { PermissionDecision, StartRun } from '@atoll/protocol'
import type { Limits } from '../config.ts'
import { cursorOf, sendEvents, writeEvents } from '../event-stream.ts'
import type { Call, Routes } from '../router.ts'
import type { LazyAgents } from './lazy-agents.ts'
import type { Records } from './records.ts'

const batchLength = 64 * 1024

/** Lines in pieces of some size. */
function* batched(lines: Iterable<string>): Generator<string> {
  let batch = ''
  for (const line of lines) {
    batch += line
    if (batch.length < batchLength) continue
    yield batch
    batch = ''
  }
  if (batch !== '') yield batch
}

async function sendLines({ response }: Call, lines: Iterable<string>, stallMs: number): Promise<void> {
  const batches = batched(lines)
  // Before the answer begins: what cannot be read is a refusal.
  let next = batches.next()
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  for (; !next.done; next = batches.next()) if (!(await writeEvents(response, next.value, stallMs))) return
  response.end()
}

/** What there is to look at, also of a sandbox that is stopped. */
export function recordRoutes(records: Records, limits: Limits): Routes {
  const pace = { heartbeatMs: limits.heartbeatMs, stallMs: limits.readerStallMs }
  return {
    'GET /agents/runs': () => ({ runs: records.runs() }),
    'GET /agents/runs/{rid}': ({ params }) => records.describeRun(records.run(params.rid ?? '')),
    'GET /agents/runs/{rid}/events': (call) =>
      sendEvents(call.response, records.run(call.params.rid ?? '').log, { after: cursorOf(call) ?? 0, pace }),
    'GET /agents/sessions': () => ({ sessions: records.sessions() }),
    'GET /agents/sessions/{sid}': ({ params }) => records.session(params.sid ?? '').view(),
    'GET /agents/sessions/{sid}/transcript': (call) =>
      sendLines(call, records.transcript(records.session(call.params.sid ?? '')), limits.readerStallMs),
  }
}

export const agentRoutes = (agents: LazyAgents, records: Records): Routes => ({
  'GET /agents': async () => ({ harnesses: await (await agents.get()).harnesses() }),
  'POST /agents/runs': async (call) => {
    const request = await call.json<StartRun>()
    return records.describeRun(await (await agents.get()).start(request))
  },
  'POST /agents/runs/{rid}/cancel': async ({ params }) => {
    const run = records.run(params.rid ?? '')
    await (await agents.get()).cancel(run)
    return records.describeRun(run)
  },
  'POST /agents/runs/{rid}/permissions/{request_id}': async (call) => {
    const run = records.run(call.params.rid ?? '')
    const { decision } = await call.json<{ decision: PermissionDecision }>()
    const loaded = await agents.get()
    loaded.permit(run, call.params.request_id ?? '', decision)
    return { success: true }
  },
  'POST /agents/sessions': async (call) => {
    const { title = '', harness = '' } = await call.json<{ title?: string; harness?: string }>()
    return (await (await agents.get()).createSession({ title, harness })).view()
  },
  'DELETE /agents/sessions/{sid}': async ({ params }) => {
    const loaded = await agents.get()
    loaded.removeSession(params.sid ?? '')
    return { deleted: true, session_id: params.sid }
  },
})
