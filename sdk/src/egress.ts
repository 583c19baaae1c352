import { type EgressBinding, type EgressPolicyInput, routes, type SandboxEgress } from '@atoll/protocol'
import type { Connection } from './connection.ts'

export interface EgressRuleOptions {
  /** `example.com`, `*.example.com` for every name below it, or either with a port. Without one: TLS on 443 and plain HTTP on 80. */
  readonly host: string
  /** All when not given. */
  readonly methods?: NonNullable<NonNullable<EgressPolicyInput['rules']>[number]['methods']> | undefined
  /** That path and what is below it; every path when not given. */
  readonly pathPrefix?: string | undefined
}

export interface EgressOptions {
  /** `allowlist` when there are rules or presets, else `none`. */
  readonly mode?: EgressPolicyInput['mode'] | undefined
  readonly rules?: readonly EgressRuleOptions[] | undefined
  readonly presets?: readonly NonNullable<EgressPolicyInput['presets']>[number][] | undefined
}

/** A secret that the operator puts into requests in TLS, so that the sandbox never has it. */
export interface EgressBindingOptions extends EgressRuleOptions {
  /** Replaces what a request has under this name. */
  readonly header: string
  /** As it stands in the header, such as `Bearer …`. It cannot be read back. */
  readonly value: string
}

const ruleOf = ({ host, methods, pathPrefix }: EgressRuleOptions) => ({
  host,
  ...(methods && { methods: [...methods] }),
  ...(pathPrefix !== undefined && { path_prefix: pathPrefix }),
})

export function policyOf({ mode, rules = [], presets = [] }: EgressOptions): EgressPolicyInput {
  return {
    mode: mode ?? (rules.length + presets.length > 0 ? 'allowlist' : 'none'),
    rules: rules.map(ruleOf),
    presets: [...presets],
  }
}

/** What a sandbox may reach of the world. */
export class Egress {
  readonly #connection: Connection
  readonly #params: { readonly id: string }

  constructor(connection: Connection, sandboxId: string) {
    this.#connection = connection
    this.#params = { id: sandboxId }
  }

  get(): Promise<SandboxEgress> {
    return this.#connection.call(routes.egress.get, { params: this.#params })
  }

  /**
   * Replaces all of it; connections that it allows no more are cut.
   * @throws Failure `request.invalid` for a host, method or path that is none
   */
  set(options: EgressOptions): Promise<SandboxEgress> {
    return this.#connection.call(routes.egress.set, { params: this.#params, body: policyOf(options) }, { isRepeatable: true })
  }

  /** Where secrets are put in, without the secrets. */
  async bindings(): Promise<EgressBinding[]> {
    return (await this.#connection.call(routes.egress.getBindings, { params: this.#params })).bindings
  }

  /** Replaces all of them. @throws Failure `request.invalid` for a host, path or header that is none */
  async setBindings(bindings: readonly EgressBindingOptions[]): Promise<EgressBinding[]> {
    const body = { bindings: bindings.map(({ header, value, ...rule }) => ({ ...ruleOf(rule), header, value })) }
    return (await this.#connection.call(routes.egress.setBindings, { params: this.#params, body }, { isRepeatable: true })).bindings
  }
}
