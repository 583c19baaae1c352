// Looks at everything that the runtimes stand on, and says which of them is the strongest that is safe here.
import type { Check, CheckStatus } from './check.ts'
import { checkEngine } from './engine.ts'
import { checkControlGroups, checkDisk, checkLoopDevices, checkSystem } from './machine.ts'
import { checkBubblewrap, checkUserNamespaces } from './namespaces.ts'
import { checkKvm } from './virtual-machine.ts'

export interface Report {
  readonly ok: boolean
  /** The strongest runtime that is safe here, and why; null when there is none. */
  readonly strongest: { readonly runtime: 'docker' | 'namespace'; readonly why: string } | null
  readonly checks: readonly Check[]
}

/** @param stateDir where the operator keeps disks */
export async function diagnose(stateDir: string): Promise<Report> {
  const groups = await Promise.all([
    checkSystem(),
    checkEngine(),
    checkBubblewrap(),
    checkUserNamespaces(),
    checkKvm(),
    checkControlGroups(),
    checkDisk(stateDir),
    checkLoopDevices(),
  ])
  const checks = groups.flat()
  const strongest = strongestOf(checks)
  return { ok: strongest !== null, strongest, checks }
}

export function strongestOf(checks: readonly Check[]): Report['strongest'] {
  const status = (id: string): CheckStatus | undefined => checks.find((check) => check.id === id)?.status
  if (status('engine') === 'ok' && status('runc') !== 'problem')
    return { runtime: 'docker', why: 'an engine answers, and no escape from it is known' }
  if (status('bubblewrap') !== 'ok') return null
  const why = status('engine') === 'ok' ? 'the engine has known escapes' : 'no engine answers'
  return { runtime: 'namespace', why: `${why}; namespaces are a weaker wall than containers` }
}
