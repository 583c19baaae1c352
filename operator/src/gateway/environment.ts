// What processes of a sandbox find of the model providers: a placeholder for the key, and an address on their own loopback.
import { type GatewayEnvironment, gatewayPort, placeholderKey } from '@atoll/protocol/sidecar'
import type { Provider } from './providers.ts'

/** @param providers those of which the sandbox's service has a key. Of several with the same variables the table's own goes first. */
export function environmentOf(providers: readonly Provider[]): GatewayEnvironment {
  const ordered = [...providers].sort((one, other) => Number(one.id.includes(':')) - Number(other.id.includes(':')))
  const groups = new Map<string, Record<string, string>>()
  for (const { id, variables } of ordered) {
    if (groups.has(variables.key)) continue
    groups.set(variables.key, { [variables.key]: placeholderKey, [variables.baseUrl]: `http://127.0.0.1:${gatewayPort}/${id}` })
  }
  return { variables: [...groups.values()] }
}
