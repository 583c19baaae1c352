import type { sandboxRoutes, secretRoutes } from '@atoll/protocol'
import type { EgressPolicies } from '../../gateway/egress/policies.ts'
import type { Lifecycle } from '../../sandboxes/lifecycle.ts'
import type { SandboxRecord } from '../../sandboxes/sandbox.ts'
import type { Secrets } from '../../sandboxes/secrets.ts'
import type { Snapshots } from '../../sandboxes/snapshots.ts'
import type { Store } from '../../sandboxes/store.ts'
import type { Metrics } from '../../telemetry/metrics.ts'
import type { Handlers } from '../call.ts'
import { ownerOf } from '../mount.ts'
import { afterOf, cursorOf, idempotencyOf } from '../pages.ts'
import type { View } from '../view.ts'

export interface SandboxParts {
  readonly lifecycle: Lifecycle
  readonly store: Store
  readonly secrets: Secrets
  readonly snapshots: Snapshots
  readonly egressPolicies: EgressPolicies
  readonly metrics: Metrics
  readonly view: View
  readonly now: () => number
}

const pairOf = (pair: string): readonly [string, string] => {
  const at = pair.indexOf('=')
  return [pair.slice(0, at), pair.slice(at + 1)]
}

const visibleStates = ['creating', 'running', 'paused', 'stopped', 'deleting'] as const

export const sandboxHandlers = ({
  lifecycle,
  snapshots,
  egressPolicies,
  store,
  metrics,
  view,
  now,
}: SandboxParts): Handlers<typeof sandboxRoutes> => ({
  create: async ({ request: { body, query }, caller, incoming, setStatus, note }) => {
    const startedAt = now()
    const { snapshot } = body
    const wanted = snapshot ? await snapshots.seedOf(snapshot, body, { owner: caller.owner, sees: ownerOf(caller) }) : body
    const created = await lifecycle.create(caller.owner, wanted, idempotencyOf(incoming.headers['idempotency-key'], body))
    // Before any process of it runs. An operator that dies here leaves a creation that is undone.
    if (body.egress) await egressPolicies.begin(created.sandbox, body.egress, caller.owner)
    note({ subject: created.sandbox.id, detail: { runtime: created.sandbox.runtime, ...(snapshot && { snapshot }) } })
    metrics.creationStarted()
    const settled = created.settled.then(
      (sandbox) => {
        metrics.creationDone(sandbox.runtime, now() - startedAt)
        return sandbox
      },
      (error: unknown) => {
        metrics.creationDone(created.sandbox.runtime, undefined)
        throw error
      },
    )
    if (query.wait === 'true') return view.sandbox(await settled)
    settled.catch(() => undefined) // The provision and the record keep the reason.
    setStatus(202)
    return view.sandbox(created.sandbox)
  },

  list: async ({ request: { query }, caller }) => {
    const owner = ownerOf(caller)
    const after = afterOf(query.cursor)
    const found = await store.list({
      ...(owner !== undefined && { owner }),
      ...(after && { after }),
      states: query.state ?? visibleStates,
      ...(query.metadata && { metadata: query.metadata.map(pairOf) }),
      limit: query.limit + 1,
    })
    const page = found.slice(0, query.limit).filter(({ end }) => end?.reason !== 'deleted')
    const last = found.length > query.limit ? found[query.limit - 1] : undefined
    return { sandboxes: await Promise.all(page.map((record) => view.sandbox(record))), ...(last && { next_cursor: cursorOf(last) }) }
  },

  get: async ({ sandbox }) => view.sandbox(sandbox),

  remove: async ({ sandbox }) => {
    await lifecycle.remove(sandbox)
    return { deleted: true, sandbox_id: sandbox.id }
  },

  stop: async ({ sandbox }) => {
    await lifecycle.stop(sandbox)
    return { success: true, sandbox_id: sandbox.id, state: 'stopped' }
  },

  pause: async ({ sandbox }) => {
    await lifecycle.pause(sandbox)
    return { success: true, sandbox_id: sandbox.id, state: 'paused' }
  },

  update: async ({ sandbox, request: { body } }) => view.sandbox(await lifecycle.update(sandbox, body)),

  resume: async ({ sandbox }) => {
    await lifecycle.resume(sandbox)
    return { success: true, sandbox_id: sandbox.id, state: 'running' }
  },
})

export const secretHandlers = ({ secrets, view, store }: SandboxParts): Handlers<typeof secretRoutes> => {
  const changed = async (sandbox: SandboxRecord, status: string) => {
    const current = (await store.get(sandbox.id)) ?? sandbox
    return { status, sandbox_id: sandbox.id, credentials_available: await view.hasCredentials(current) }
  }
  return {
    get: async ({ sandbox, note }) => {
      const env = { ...(await secrets.environment(sandbox.id)).secrets }
      note({ detail: { names: Object.keys(env) } })
      return { sandbox_id: sandbox.id, env_json: env, credentials_available: await view.hasCredentials(sandbox) }
    },
    set: async ({ sandbox, request: { body }, note }) => {
      note({ detail: { names: Object.keys(body.env_json) } })
      await secrets.replace(sandbox, body.env_json)
      return changed(sandbox, 'secrets_configured')
    },
    wipe: async ({ sandbox }) => {
      await secrets.replace(sandbox, {})
      return changed(sandbox, 'secrets_wiped')
    },
  }
}
