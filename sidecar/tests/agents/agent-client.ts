// A caller of the agents of a real sidecar.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { type AgentEvent, type AgentRun, StartRun } from '@atoll/protocol'
import type { SidecarEnvironment } from '@atoll/protocol/sidecar'
import { eventsOf, type SidecarProcess, startSidecarProcess } from '../sidecar-process.ts'

type Input = Parameters<typeof StartRun.parse>[0]
export type Told<Type extends AgentEvent['type']> = Extract<AgentEvent, { type: Type }>

export interface Following {
  readonly cursor?: number
  /** Called with each event as it comes. */
  readonly onEvent?: (event: AgentEvent) => unknown
}

export class AgentClient {
  readonly sidecar: SidecarProcess

  constructor(sidecar: SidecarProcess) {
    this.sidecar = sidecar
  }

  configure(given: Partial<SidecarEnvironment>): Promise<unknown> {
    return this.sidecar.json('PUT', '/environment', { env: {}, secrets: {}, ...given })
  }

  async start(request: Input): Promise<AgentRun> {
    const answer = await this.sidecar.call('POST', '/agents/runs', { body: StartRun.parse(request) })
    const body = JSON.parse(answer.body.toString())
    assert.equal(answer.status, 200, JSON.stringify(body))
    return body
  }

  /** The status and the code of a refusal. */
  async refusal(request: Input): Promise<{ status: number; code: string; error: string }> {
    const answer = await this.sidecar.call('POST', '/agents/runs', { body: StartRun.parse(request) })
    return { status: answer.status, ...JSON.parse(answer.body.toString()) }
  }

  async follow(runId: string, { cursor = 0, onEvent }: Following = {}): Promise<AgentEvent[]> {
    const events: AgentEvent[] = []
    const stream = eventsOf(await this.sidecar.open('GET', `/agents/runs/${runId}/events?cursor=${cursor}`))
    for await (const { data } of stream) {
      const event = data as unknown as AgentEvent
      events.push(event)
      await onEvent?.(event)
    }
    return events
  }

  /** Runs to the end, and answers what was told. */
  async perform(request: Input, following?: Following): Promise<{ run: AgentRun; events: AgentEvent[] }> {
    const { id } = await this.start(request)
    const events = await this.follow(id, following)
    return { run: await this.view(id), events }
  }

  view(runId: string): Promise<AgentRun> {
    return this.sidecar.json('GET', `/agents/runs/${runId}`)
  }

  cancel(runId: string): Promise<AgentRun> {
    return this.sidecar.json('POST', `/agents/runs/${runId}/cancel`)
  }

  permit(runId: string, requestId: string, decision: string): Promise<Record<string, unknown>> {
    return this.sidecar.json('POST', `/agents/runs/${runId}/permissions/${requestId}`, { decision })
  }
}

/** What a container leaves to the sidecar; with it alone, it can look into no process and no closed directory of the user's. */
const rights = '+setuid,+setgid,+kill,+chown'
const asInContainer = ['setpriv', '--no-new-privs', `--bounding-set=-all,${rights}`, `--inh-caps=-all,${rights}`]

export const startAgentSidecar = async (options: Parameters<typeof startSidecarProcess>[0] = {}): Promise<AgentClient> =>
  new AgentClient(await startSidecarProcess({ through: asInContainer, ...options }))

export const told = <Type extends AgentEvent['type']>(events: readonly AgentEvent[], type: Type): Told<Type>[] =>
  events.filter((event): event is Told<Type> => event.type === type)

/** Numbers without a hole, one end, and that last; whatever was begun was ended. */
export function assertWhole(events: readonly AgentEvent[]): Told<'run.finished'> {
  assert.deepEqual(
    events.map((event) => (event.type === 'gap' ? 'gap' : event.seq)),
    events.map((_, index) => index + 1),
  )
  assert.equal(told(events, 'run.started').length, 1)
  assert.equal(told(events, 'run.finished').length, 1)
  const begun = told(events, 'tool.started').map(({ tool_id }) => tool_id)
  const ended = told(events, 'tool.finished').map(({ tool_id }) => tool_id)
  assert.deepEqual(ended.sort(), begun.sort())
  const last = events.at(-1)
  assert.ok(last?.type === 'run.finished', `the last event is ${last?.type}`)
  return last
}

/** Command lines of the processes that carry the mark of a run. */
export function processesOf(runId: string): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    try {
      if (!/^\d+$/.test(pid) || !readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`ATOLL_RUN_ID=${runId}`)) return []
      return [readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')]
    } catch {
      return []
    }
  })
}
