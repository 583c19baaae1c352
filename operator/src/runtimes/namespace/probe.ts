// Finds out what namespace sandboxes are on this machine, by starting one.
import { randomBytes } from 'node:crypto'
import http from 'node:http'
import { buffer } from 'node:stream/consumers'
import { toFailure } from '@atoll/protocol'
import type { Cgroups } from '../../host/cgroup.ts'
import { runCommand } from '../../host/command.ts'
import type { WorkspaceDisks } from '../../host/workspace-disk.ts'
import type { Plan, Probe, Runtime } from '../../sandboxes/runtime.ts'

export interface ProbeParts {
  readonly runtime: Pick<Runtime, 'ping' | 'start' | 'remove'>
  readonly disks: WorkspaceDisks
  readonly cgroups: Cgroups
  /** Keeps the sandbox that is started out of the list of real ones while it lives. */
  readonly hide: (id: string) => Disposable
}

const isolation =
  "Linux namespaces, a system call filter and user ids of its own on the host's kernel and programs: weaker than a container of an image, and much weaker than a virtual machine."

const answersHealth = (socketPath: string, signal: AbortSignal): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const request = http.get({ socketPath, path: '/health', signal, agent: false }, (response) => {
      buffer(response).then(() => resolve(response.statusCode === 200), reject)
    })
    request.once('error', reject)
  })

const probePlan = (): Plan => ({
  id: `probe-${randomBytes(6).toString('hex')}`,
  image: '',
  cpuCores: 1,
  memoryMb: 256,
  diskGb: 1 / 16,
  pids: 64,
})

/** Undefined when a sandbox really works, else why not. */
async function trial({ runtime, hide }: ProbeParts, signal: AbortSignal): Promise<string | undefined> {
  const plan = probePlan()
  using _ = hide(plan.id)
  try {
    const { socketPath } = await runtime.start(plan, { signal, progress: () => undefined })
    return (await answersHealth(socketPath, signal)) ? undefined : 'the sidecar of a sandbox that was started does not answer'
  } catch (error) {
    return error instanceof Error && error.name === 'AbortError' ? 'the probe was given up' : toFailure(error).message
  } finally {
    await runtime.remove(plan.id)
  }
}

export async function probeNamespace(parts: ProbeParts, signal: AbortSignal): Promise<Probe> {
  const { cgroups, disks } = parts
  const limits = { ...cgroups.support(), disk: await disks.support() }
  try {
    const reason = (await parts.runtime.ping(signal)) ?? (await trial(parts, signal))
    if (reason !== undefined) return { available: false, reason, isolation, limits, features: [] }
    const version = (await runCommand('bwrap', ['--version'])).trim()
    // A disk that has its size for sure is an image, and can be copied.
    const copies = limits.disk === true ? ['snapshot'] : []
    return { available: true, version, isolation, limits, features: ['resume', ...copies, ...(cgroups.canFreeze ? ['pause'] : [])] }
  } catch (error) {
    return { available: false, reason: toFailure(error).message, isolation, limits, features: [] }
  }
}
