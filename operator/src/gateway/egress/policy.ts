// What a policy says of a connection, and of a request in it.
import { isIP } from 'node:net'
import type { EgressDenial, EgressPolicy, EgressRule, SandboxEgress } from '@atoll/protocol'
import { EgressPathPrefix, egressMethods } from '@atoll/protocol'
import type { Target } from '../addresses.ts'
import type { Binding } from './bindings.ts'
import { presetHosts } from './presets.ts'

/** A policy with what belongs to it. */
export interface HeldPolicy extends EgressPolicy {
  readonly bindings: readonly Binding[]
}

export interface Connection extends Target {
  readonly isTls: boolean
}

export interface AskedRequest extends Connection {
  readonly method: string
  /** With its query, as it was sent. */
  readonly path: string
}

export interface Denied {
  readonly kind: 'denied'
  readonly denial: EgressDenial
  /** The rule that would have allowed it; undefined when none would. */
  readonly allow: EgressRule | undefined
}

/** `passed`: all that it carries; `looked_into`: each request in it is asked for by itself. */
export type Verdict = Denied | { readonly kind: 'passed' | 'looked_into' }

/** With the rules of the presets, which come last. */
export const effectiveRules = ({ rules, presets }: EgressPolicy): SandboxEgress['effective_rules'] => [
  ...rules,
  ...[...new Set(presets)].flatMap((preset) => presetHosts[preset].map((host) => ({ host, preset }))),
]

/** Ports that are no service's which would do something with the lines of an HTTP request. */
const isUsualPort = (port: number): boolean => port === 80 || port === 443 || port >= 1024

/** Whether the host of a rule is meant. */
function isOf(rule: EgressRule, { host, port, isTls }: Connection): boolean {
  const [pattern = '', ownPort] = rule.host.split(':')
  if (port !== (ownPort === undefined ? (isTls ? 443 : 80) : Number(ownPort))) return false
  return pattern.startsWith('*.') ? host.endsWith(pattern.slice(1)) : host === pattern
}

const isBare = ({ methods, path_prefix: prefix }: EgressRule): boolean => methods === undefined && prefix === undefined

const rulesOf = (policy: EgressPolicy, connection: Connection): EgressRule[] =>
  policy.mode === 'allowlist' && isIP(connection.host) === 0 ? effectiveRules(policy).filter((rule) => isOf(rule, connection)) : []

function hostRule({ host, port, isTls }: Connection): EgressRule | undefined {
  if (isIP(host)) return undefined
  return { host: port === (isTls ? 443 : 80) ? host : `${host}:${port}` }
}

export function verdictOn(policy: HeldPolicy, connection: Connection): Verdict {
  const verdict = verdictOfRules(policy, connection)
  const isBound = verdict.kind === 'passed' && connection.isTls && policy.bindings.some((binding) => isOf(binding, connection))
  return isBound ? { kind: 'looked_into' } : verdict
}

function verdictOfRules(policy: EgressPolicy, connection: Connection): Verdict {
  if (policy.mode === 'internet') {
    return isUsualPort(connection.port) ? { kind: 'passed' } : { kind: 'denied', denial: 'port', allow: undefined }
  }
  const rules = rulesOf(policy, connection)
  if (rules.length === 0) return { kind: 'denied', denial: 'no_rule', allow: hostRule(connection) }
  return { kind: rules.some(isBare) ? 'passed' : 'looked_into' }
}

/** The same of one request. Its path matters only where a rule goes by it. */
export function verdictOnRequest(policy: EgressPolicy, asked: AskedRequest): Verdict {
  const whole = verdictOfRules(policy, asked)
  if (whole.kind !== 'looked_into') return whole
  const [path = ''] = asked.path.split('?', 1)
  const rules = rulesOf(policy, asked).filter(({ methods }) => methods === undefined || methods.some((method) => method === asked.method))
  if (rules.some(({ path_prefix: prefix }) => prefix === undefined)) return { kind: 'passed' }
  const [first] = rules
  if (first && !hasOneReading(asked.path)) return { kind: 'denied', denial: 'path', allow: undefined }
  if (rules.some(({ path_prefix: prefix = '' }) => isBelow(path, prefix))) return { kind: 'passed' }
  return { kind: 'denied', denial: 'no_rule', allow: requestRule(asked, path) }
}

/**
 * Secrets that go into a request, by the names of their headers. Of several for one header the first counts. None goes into a TRACE, which
 * asks a server to send back what it got.
 */
export function secretsFor({ bindings }: HeldPolicy, asked: AskedRequest): Map<string, string> {
  const found = new Map<string, string>()
  const [path = ''] = asked.path.split('?', 1)
  for (const { methods, path_prefix: prefix, header, value, host } of asked.isTls && asked.method !== 'TRACE' ? bindings : []) {
    const isMeant =
      isOf({ host }, asked) &&
      (methods === undefined || methods.some((method) => method === asked.method)) &&
      (prefix === undefined || (hasOneReading(asked.path) && isBelow(path, prefix)))
    if (isMeant && !found.has(header)) found.set(header, value.reveal())
  }
  return found
}

const isBelow = (path: string, prefix: string): boolean => path === prefix || path.startsWith(prefix.endsWith('/') ? prefix : `${prefix}/`)

/**
 * Whether every server takes a path for the same one. What some decode, fold or cut off before they look for the resource is not let
 * through: dot segments, empty segments, parameters of segments, and escapes that stand for a separator or for what needs none.
 */
export function hasOneReading(path: string): boolean {
  const [plain = ''] = path.split('?', 1)
  if (!/^\/[\x21-\x7e]*$/.test(plain) || /\/\/|[\\;#]/.test(plain)) return false
  if (/%(?![0-9a-f]{2})|%(?:2[ef5]|5c|3b|23|3f|[01][0-9a-f]|7f)/i.test(plain)) return false
  return !plain.split('/').some((segment) => segment === '.' || segment === '..')
}

function requestRule({ method, ...connection }: AskedRequest, path: string): EgressRule | undefined {
  const rule = hostRule(connection)
  const known = egressMethods.find((one) => one === method)
  if (!rule || !known) return rule
  return { ...rule, methods: [known], ...(EgressPathPrefix.safeParse(path).success && { path_prefix: path }) }
}
