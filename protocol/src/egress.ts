// What a sandbox may reach of the world.
import { z } from 'zod'
import { route } from './route.ts'

/** `none`: nothing; `allowlist`: what the rules and presets name; `internet`: every public address. */
export const egressModes = ['none', 'allowlist', 'internet'] as const
/** Lists of hosts that are kept with the operator. */
export const egressPresets = ['npm', 'pypi', 'github', 'debian', 'model-apis'] as const
export const egressMethods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

/** At most 253 characters of small letters, digits, `-` and `_` in labels, two or more of them; the last is no number. */
const hostPattern = /^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9](?::(?<port>[1-9]\d{0,4}))?$/
const isHostPattern = (text: string): boolean => {
  const port = hostPattern.exec(text)?.groups?.['port']
  return hostPattern.test(text) && Number(port ?? 1) <= 65_535
}

/** Printable, without what servers read in different ways: no `//`, dot segments, `;`, backslash, query or escapes. */
const isPathPrefix = (text: string): boolean =>
  /^\/[\x21-\x7e]*$/.test(text) && !/\/\/|[\\;?#%]/.test(text) && !text.split('/').some((segment) => segment === '.' || segment === '..')

/**
 * `example.com` is that name alone, and `*.example.com` every name below it, however deep, without itself. Without a port, TLS to 443 and
 * plain HTTP to 80; with one, that port alone.
 */
export const EgressHost = z
  .string()
  .max(260)
  .trim()
  .toLowerCase()
  .refine(isHostPattern, 'write a name such as example.com, *.example.com or example.com:8443, without a scheme, and IDNA as xn--')

export const EgressPathPrefix = z
  .string()
  .max(1024)
  .refine(isPathPrefix, 'a path begins with / and has no //, dot segments, ;, \\, %, ? or #')

/** What one rule allows. A rule with methods or a path has the operator look into TLS, with a certificate authority of the sandbox's own. */
export const EgressRule = z
  .strictObject({
    host: EgressHost,
    /** All when not given. */
    methods: z.array(z.enum(egressMethods)).min(1).max(egressMethods.length).optional(),
    /** `/repo` is that path and what is below it, but not `/repository`. */
    path_prefix: EgressPathPrefix.optional(),
  })
  .meta({ id: 'EgressRule' })
export type EgressRule = z.infer<typeof EgressRule>

export const EgressPolicy = z
  .strictObject({
    mode: z.enum(egressModes),
    /** Count in mode `allowlist`; kept in others. */
    rules: z.array(EgressRule).max(256, 'at most 256 rules').default([]),
    presets: z.array(z.enum(egressPresets)).max(egressPresets.length).default([]),
  })
  .meta({ id: 'EgressPolicy' })
export type EgressPolicy = z.output<typeof EgressPolicy>
export type EgressPolicyInput = z.input<typeof EgressPolicy>

const EffectiveRule = EgressRule.extend({ preset: z.enum(egressPresets).optional() })

/** A policy as it holds: with the rules of its presets. */
export const SandboxEgress = z
  .object({ sandbox_id: z.string(), ...EgressPolicy.shape, effective_rules: z.array(EffectiveRule) })
  .meta({ id: 'SandboxEgress' })
export type SandboxEgress = z.output<typeof SandboxEgress>

/** Why something was not let through: in the event `egress.denied` as `reason`, and to the sandbox in the header `x-atoll-denied`. */
export const egressDenials = {
  no_rule: 'No rule of the policy allows it.',
  bad_target: 'The address cannot be read in exactly one way.',
  private_address: 'The name leads to an address that is not of the public internet.',
  port: 'Mode internet reaches the ports 80, 443 and those from 1024 on.',
  host_mismatch: 'The request names another host than the connection.',
  path: 'The path can be read in several ways, and a rule goes by it.',
  not_tls: 'What a tunnel carries must be TLS; plain HTTP is asked for without a tunnel.',
  tls_name: 'The TLS handshake names another host than the tunnel, or none.',
  policy_changed: 'The policy was changed, and does not allow it any more.',
} as const
export type EgressDenial = keyof typeof egressDenials

/** Of the connection, of the proxy, or what a request is found by: no secret stands in any of them. */
const unboundHeaders = new Set([
  ...['host', 'connection', 'content-length', 'transfer-encoding', 'te', 'trailer', 'upgrade', 'expect', 'keep-alive', 'http2-settings'],
])
const isBindable = (name: string): boolean => !unboundHeaders.has(name) && !name.startsWith('proxy-')

/** Where a secret is put in: into requests in TLS to this host, by the operator, and nowhere else. */
export const EgressBinding = z
  .strictObject({
    ...EgressRule.shape,
    /** Replaces what the request has under this name. */
    header: z
      .string()
      .max(128)
      .toLowerCase()
      .regex(/^[!#$%&'*+.^_`|~0-9a-z-]+$/, 'a header is letters, digits and -')
      .refine(isBindable, 'this header cannot be bound'),
  })
  .meta({ id: 'EgressBinding' })
export type EgressBinding = z.infer<typeof EgressBinding>

const NewEgressBinding = EgressBinding.extend({
  /** As it stands in the header, such as `Bearer …`; never shown again. */
  value: z.string().regex(/^[\x21-\x7e](?:[\x20-\x7e]{0,8190}[\x21-\x7e])?$/, 'a value is 1 to 8192 printable characters'),
})

const SandboxBindings = z.object({ sandbox_id: z.string(), bindings: z.array(EgressBinding) }).meta({ id: 'SandboxEgressBindings' })
const bindings = { path: '/api/sandboxes/{id}/egress/bindings', singleton: true, response: SandboxBindings } as const

const one = { path: '/api/sandboxes/{id}/egress', singleton: true, response: SandboxEgress } as const

export const egressRoutes = {
  getBindings: route({
    method: 'GET',
    ...bindings,
    summary: 'List where secrets are put into requests of a sandbox. The secrets themselves are never shown.',
    access: 'read',
    tier: 'read',
  }),
  setBindings: route({
    method: 'PUT',
    ...bindings,
    summary: 'Replace the secrets that the operator puts into requests of a sandbox. They are sealed, and the sandbox never has them.',
    access: 'write',
    tier: 'write',
    audit: 'egress.change',
    body: z.object({ bindings: z.array(NewEgressBinding).max(64, 'at most 64 bindings') }),
  }),
  get: route({ method: 'GET', ...one, summary: 'Read what a sandbox may reach of the world.', access: 'read', tier: 'read' }),
  set: route({
    method: 'PUT',
    ...one,
    summary: 'Replace what a sandbox may reach; connections that it allows no more are cut at once.',
    audit: 'egress.change',
    access: 'write',
    tier: 'write',
    body: EgressPolicy,
  }),
}
