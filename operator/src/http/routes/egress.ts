import type { egressRoutes } from '@atoll/protocol'
import { shownBindings } from '../../gateway/egress/bindings.ts'
import { type EgressPolicies, shownEgress } from '../../gateway/egress/policies.ts'
import { Secret } from '../../secrets/secret.ts'
import type { Handlers } from '../call.ts'

export interface EgressParts {
  readonly egressPolicies: EgressPolicies
}

export const egressHandlers = ({ egressPolicies }: EgressParts): Handlers<typeof egressRoutes> => ({
  getBindings: async ({ sandbox }) => ({
    sandbox_id: sandbox.id,
    bindings: shownBindings((await egressPolicies.of(sandbox.id)).bindings),
  }),
  setBindings: async ({ sandbox, caller, request: { body }, note }) => {
    note({ detail: { hosts: body.bindings.map(({ host }) => host) } })
    const bindings = body.bindings.map(({ value, ...rest }) => ({ ...rest, value: new Secret(value) }))
    await egressPolicies.setBindings(sandbox, bindings, caller.owner)
    return { sandbox_id: sandbox.id, bindings: shownBindings(bindings) }
  },
  get: async ({ sandbox }) => shownEgress(sandbox.id, await egressPolicies.of(sandbox.id)),
  set: async ({ sandbox, caller, request: { body }, note }) => {
    note({ detail: { mode: body.mode, presets: body.presets, hosts: body.rules.map(({ host }) => host) } })
    await egressPolicies.set(sandbox, body, caller.owner)
    return shownEgress(sandbox.id, body)
  },
})
