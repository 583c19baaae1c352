// Secrets that the operator puts into requests of a sandbox on their way out, so that the sandbox has none of them.
import { EgressBinding } from '@atoll/protocol'
import { z } from 'zod'
import { Secret } from '../../secrets/secret.ts'

export interface Binding extends EgressBinding {
  readonly value: Secret
}

/** What the bindings of a sandbox are sealed for. */
export const bindingsContext = (sandboxId: string): string => `sandbox/${sandboxId}/egress-bindings`

const Kept = z.array(EgressBinding.extend({ value: z.string() }))

export const bindingsText = (bindings: readonly Binding[]): string =>
  JSON.stringify(bindings.map(({ value, ...rest }) => ({ ...rest, value: value.reveal() })))

export const bindingsIn = (text: string): Binding[] =>
  Kept.parse(JSON.parse(text)).map(({ value, ...rest }) => ({ ...rest, value: new Secret(value) }))

/** What may be known of them. */
export const shownBindings = (bindings: readonly Binding[]): EgressBinding[] => bindings.map(({ value: _, ...rest }) => rest)
