// The sidecar's routes of agents.
import type { PermissionDecision, StartRun } from '@atoll/protocol'
import type { Config } from '../config.ts'
import { cursorOf, sendEvents, writeEvents } from '../event-stream.ts'
import type { Call, Routes } from '../router.ts'
import type { Agents } from './agents.ts'
import type { Run, Session } from './session.ts'

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
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  for (const batch of batched(lines)) if (!(await writeEvents(response, batch, stallMs))) return
  response.end()
}

export function agentRoutes(agents: Agents, { limits }: Config): Routes {
  const runOf = ({ params }: Call): Run => agents.run(params.rid ?? '')
  const sessionOf = ({ params }: Call): Session => agents.session(params.sid ?? '')
  const pace = { heartbeatMs: limits.heartbeatMs, stallMs: limits.readerStallMs }
  return {
    'GET /agents': async () => ({ harnesses: await agents.harnesses() }),
    'POST /agents/runs': async (call) => agents.describeRun(await agents.start(await call.json<StartRun>())),
    'GET /agents/runs': () => ({ runs: agents.runs() }),
    'GET /agents/runs/{rid}': (call) => agents.describeRun(runOf(call)),
    'GET /agents/runs/{rid}/events': (call) => sendEvents(call.response, runOf(call).log, { after: cursorOf(call) ?? 0, pace }),
    'POST /agents/runs/{rid}/cancel': async (call) => {
      const run = runOf(call)
      await agents.cancel(run)
      return agents.describeRun(run)
    },
    'POST /agents/runs/{rid}/permissions/{request_id}': async (call) => {
      const run = runOf(call)
      const { decision } = await call.json<{ decision: PermissionDecision }>()
      agents.permit(run, call.params.request_id ?? '', decision)
      return { success: true }
    },
    'GET /agents/sessions': () => ({ sessions: agents.sessions() }),
    'POST /agents/sessions': async (call) => {
      const { title = '', harness = '' } = await call.json<{ title?: string; harness?: string }>()
      return (await agents.createSession({ title, harness })).view()
    },
    'GET /agents/sessions/{sid}': (call) => sessionOf(call).view(),
    'GET /agents/sessions/{sid}/transcript': (call) => sendLines(call, agents.transcript(sessionOf(call)), limits.readerStallMs),
    'DELETE /agents/sessions/{sid}': ({ params }) => {
      agents.removeSession(params.sid ?? '')
      return { deleted: true, session_id: params.sid }
    },
  }
}
