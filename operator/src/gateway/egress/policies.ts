// The policy of each sandbox: what its owner said, or else the operator.
import { EgressPolicy, egressModes, egressPresets, Failure, type SandboxEgress } from '@atoll/protocol'
import type { SandboxRecord } from '../../sandboxes/sandbox.ts'
import type { Seal } from '../../sandboxes/secrets.ts'
import { type Binding, bindingsContext, bindingsIn, bindingsText, shownBindings } from './bindings.ts'
import { effectiveRules, type HeldPolicy } from './policy.ts'
import type { EgressStore } from './store.ts'

export interface EgressPoliciesParts {
  readonly store: EgressStore
  readonly seal: Seal
  /** Of sandboxes that have none of their own. */
  readonly usual: EgressPolicy
}

type Listener = (sandboxId: string, policy: HeldPolicy) => void

export class EgressPolicies {
  readonly #parts: EgressPoliciesParts
  readonly #known = new Map<string, HeldPolicy>()
  readonly #listeners = new Set<Listener>()

  constructor(parts: EgressPoliciesParts) {
    this.#parts = parts
  }

  async of(sandboxId: string): Promise<HeldPolicy> {
    const known = this.#known.get(sandboxId)
    if (known) return known
    const { store, seal, usual } = this.#parts
    const sealed = await store.bindings(sandboxId)
    const bindings = sealed === undefined ? [] : bindingsIn(seal.open(sealed, bindingsContext(sandboxId)))
    const read = { ...((await store.policy(sandboxId)) ?? usual), bindings }
    // It may have been set meanwhile.
    const policy = this.#known.get(sandboxId) ?? read
    this.#known.set(sandboxId, policy)
    return policy
  }

  /** Holds for what runs already, too, when it resolves. @throws Failure `sandbox.ended` */
  async set(sandbox: SandboxRecord, policy: EgressPolicy, by: string): Promise<void> {
    assertLives(sandbox)
    const { id } = sandbox
    const { bindings } = await this.of(id)
    await this.#parts.store.setPolicy(id, policy, { type: 'egress.changed', sandboxId: id, data: { by, ...policy } })
    this.#hold(id, { ...policy, bindings: this.#known.get(id)?.bindings ?? bindings })
  }

  /** What a sandbox has from the beginning, unless it has been changed since. */
  async begin(sandbox: SandboxRecord, policy: EgressPolicy, by: string): Promise<void> {
    const isNew = sandbox.state === 'creating' && (await this.#parts.store.policy(sandbox.id)) === undefined
    if (isNew) await this.set(sandbox, policy, by)
  }

  /** The same for the secrets that are put into requests. @throws Failure `sandbox.ended` */
  async setBindings(sandbox: SandboxRecord, bindings: readonly Binding[], by: string): Promise<void> {
    assertLives(sandbox)
    const { id } = sandbox
    const current = await this.of(id)
    const sealed = this.#parts.seal.seal(bindingsText(bindings), bindingsContext(id))
    const data = { by, bindings: shownBindings(bindings) }
    await this.#parts.store.setBindings(id, sealed, { type: 'egress.bindings_changed', sandboxId: id, data })
    this.#hold(id, { ...(this.#known.get(id) ?? current), bindings })
  }

  #hold(id: string, policy: HeldPolicy): void {
    this.#known.set(id, policy)
    for (const listener of this.#listeners) listener(id, policy)
  }

  /** Told of each change. */
  onChange(listener: Listener): void {
    this.#listeners.add(listener)
  }

  /** What is known of a sandbox that does not run is read again when it is needed. */
  forget(sandboxId: string): void {
    this.#known.delete(sandboxId)
  }
}

function assertLives({ id, state }: SandboxRecord): void {
  if (state === 'ended' || state === 'deleting') throw new Failure('sandbox.ended', `Sandbox ${id} has ended. Create a new one.`)
}

/** As its owner sees it. */
export const shownEgress = (id: string, policy: EgressPolicy): SandboxEgress => ({
  sandbox_id: id,
  mode: policy.mode,
  rules: [...policy.rules],
  presets: [...policy.presets],
  effective_rules: [...effectiveRules(policy)],
})

/** @param text a mode that needs no rules, or presets with commas between. @throws Failure `config.invalid` */
export function usualPolicy(text: string): EgressPolicy {
  if (text === 'none' || text === 'internet') return EgressPolicy.parse({ mode: text })
  const parsed = EgressPolicy.safeParse({ mode: 'allowlist', presets: text.split(',').map((name) => name.trim()) })
  if (parsed.success) return parsed.data
  const modes = egressModes.filter((mode) => mode !== 'allowlist').join(', ')
  throw new Failure('config.invalid', `ATOLL_DEFAULT_EGRESS must be one of ${modes}, or a comma list of ${egressPresets.join(', ')}.`)
}
