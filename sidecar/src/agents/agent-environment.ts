// The environment of a harness: what a command of the user would find, and the credentials that it may have.
import { existsSync } from 'node:fs'
import { placeholderKey } from '@atoll/protocol/sidecar'
import type { Config } from '../config.ts'
import type { Environment } from '../environment.ts'

type Variables = Readonly<Record<string, string>>

export interface AgentEnvironment {
  readonly variables: Readonly<Record<string, string>>
  /** Values that must not be told. */
  readonly secrets: readonly string[]
}

export interface AgentEnvironmentParts {
  readonly config: Config
  readonly environment: Environment
}

const tellsWhere = (name: string): boolean => /_(BASE_)?URL$/.test(name)

/** A variable that is called a secret is one, whether or not it was given as such. */
const isCalledSecret = (name: string): boolean => /(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)$/i.test(name)

const some = (from: Variables, names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.flatMap((name) => (from[name] ? [[name, from[name]]] : [])))

/**
 * A user who brings one of the harness's variables brings all of them: the operator's key must not go to an address of the user's,
 * nor the user's key to the operator's. Where neither brings any, the gateway does.
 * @param runId stands behind the gateway's placeholder, so that the run's usage is known as such
 */
export function agentEnvironment(
  { config, environment }: AgentEnvironmentParts,
  {
    cwd,
    names,
    requested = {},
    runId,
  }: { readonly cwd: string; readonly names: readonly string[]; readonly requested?: Variables; readonly runId?: string },
): AgentEnvironment {
  const { env, secrets, agents = {} } = environment.given
  const base = environment.ownOf(cwd, requested)
  const own = some(base, names)
  const lent = Object.keys(own).length > 0 ? {} : some(agents, names)
  const hasAny = Object.keys(own).length + Object.keys(lent).length > 0
  const variables = environment.withGateway({ ...base, ...lent }, hasAny ? names : [])
  for (const name of names) if (runId !== undefined && variables[name] === placeholderKey) variables[name] = `${placeholderKey}.${runId}`
  if (existsSync(config.harnessPrograms)) variables.PATH = `${variables.PATH}:${config.harnessPrograms}`
  const credentials = Object.entries({ ...own, ...lent }).flatMap(([name, value]) => (tellsWhere(name) ? [] : [value]))
  const called = Object.entries({ ...env, ...requested }).flatMap(([name, value]) => (isCalledSecret(name) ? [value] : []))
  return { variables, secrets: [...new Set([...credentials, ...called, ...Object.values(secrets)])] }
}
