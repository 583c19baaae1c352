// Agents of a sandbox. The sidecar keeps sessions, runs and their events; the operator decides who may.
import type { AgentRun, agentRoutes, SandboxHarness } from '@atoll/protocol'
import { withHarness } from '../../agents/default-harness.ts'
import type { RunQuota } from '../../services/run-quota.ts'
import type { Handlers } from '../call.ts'
import { caller, cursorOf, type GuestCalls, query, recordCaller, recordStreamer } from '../guest-calls.ts'

const sessionAt = (sid: string): string => `/agents/sessions/${encodeURIComponent(sid)}`
const runAt = (rid: string): string => `/agents/runs/${encodeURIComponent(rid)}`

export interface AgentParts extends GuestCalls {
  readonly runQuota: RunQuota
}

export function agentHandlers(parts: AgentParts): Handlers<typeof agentRoutes> {
  const call = caller(parts)
  const look = recordCaller(parts)
  const stream = recordStreamer(parts)
  return {
    list: async ({ sandbox }) => {
      const { harnesses } = await call<{ harnesses: SandboxHarness[] }>(sandbox, { method: 'GET', path: '/agents' })
      const agents = harnesses.map(({ id, label, version }) => ({
        identifier: id,
        displayName: label,
        description: version === null ? label : `${label} ${version}`,
      }))
      return { harnesses, agents, count: agents.length }
    },
    start: ({ sandbox, request: { body } }) =>
      parts.runQuota.start(sandbox, () =>
        call<AgentRun>(sandbox, { method: 'POST', path: '/agents/runs', body: withHarness(body, sandbox) }),
      ),
    runs: ({ sandbox }) => look(sandbox, { method: 'GET', path: '/agents/runs' }),
    run: ({ sandbox, request: { params } }) => look(sandbox, { method: 'GET', path: runAt(params.rid) }),
    events: ({ sandbox, request: { params, query: asked }, incoming, outgoing, signal }) => {
      const cursor = cursorOf(asked.cursor, incoming.headers['last-event-id'])
      return stream(sandbox, { method: 'GET', path: `${runAt(params.rid)}/events${query({ cursor })}`, signal }, outgoing)
    },
    cancel: ({ sandbox, request: { params } }) => call(sandbox, { method: 'POST', path: `${runAt(params.rid)}/cancel` }),
    permit: ({ sandbox, request: { params, body } }) =>
      call(sandbox, { method: 'POST', path: `${runAt(params.rid)}/permissions/${encodeURIComponent(params.request_id)}`, body }),
    sessions: ({ sandbox }) => look(sandbox, { method: 'GET', path: '/agents/sessions' }),
    createSession: ({ sandbox, request: { body } }) => call(sandbox, { method: 'POST', path: '/agents/sessions', body }),
    session: ({ sandbox, request: { params } }) => look(sandbox, { method: 'GET', path: sessionAt(params.sid) }),
    transcript: ({ sandbox, request: { params }, outgoing, signal }) =>
      stream(sandbox, { method: 'GET', path: `${sessionAt(params.sid)}/transcript`, signal }, outgoing),
    removeSession: ({ sandbox, request: { params } }) => call(sandbox, { method: 'DELETE', path: sessionAt(params.sid) }),
  }
}
