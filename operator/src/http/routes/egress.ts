import type { egressRoutes } from '@atoll/protocol'
import { type EgressPolicies, shownEgress } from '../../gateway/egress/policies.ts'
import type { Handlers } from '../call.ts'

export interface EgressParts {
  readonly egressPolicies: EgressPolicies
}

export const egressHandlers = ({ egressPolicies }: EgressParts): Handlers<typeof egressRoutes> => ({
  get: async ({ sandbox }) => shownEgress(sandbox.id, await egressPolicies.of(sandbox.id)),
  set: async ({ sandbox, caller, request: { body }, note }) => {
    note({ detail: { mode: body.mode, presets: body.presets, hosts: body.rules.map(({ host }) => host) } })
    await egressPolicies.set(sandbox, body, caller.owner)
    return shownEgress(sandbox.id, body)
  },
})
