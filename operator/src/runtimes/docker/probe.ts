// What the engine of this machine can really do, from a hardened container that was run to its end.
import { readFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import { sidecarPaths } from '@atoll/protocol/sidecar'
import type Docker from 'dockerode'
import { z } from 'zod'
import { readCgroupLayout } from '../../host/cgroup-layout.ts'
import type { WorkspaceDisks } from '../../host/workspace-disk.ts'
import type { LimitName, Probe } from '../../sandboxes/runtime.ts'
import { versionWarnings } from './advisories.ts'
import { hardening, limitsOf } from './container.ts'
import { accepting, type Engine, refusalText } from './engine.ts'
import { type ImageLibrary, probeLabels, sweepBareContainers } from './image-facts.ts'
import { logText } from './log-text.ts'
import { parseReference } from './reference.ts'

export interface ProbeParts {
  readonly engine: Engine
  readonly library: ImageLibrary
  readonly disks: WorkspaceDisks
  readonly programDir: string
  readonly operatorId: string
  readonly defaultImage: string
  readonly mayRaise: boolean
}

const Info = z.looseObject({
  MemoryLimit: z.boolean().default(false),
  SwapLimit: z.boolean().default(false),
  PidsLimit: z.boolean().default(false),
  CpuCfsQuota: z.boolean().default(false),
  CgroupVersion: z.string().default('1'),
  Runtimes: z.record(z.string(), z.unknown()).default({}),
  SecurityOptions: z
    .array(z.string())
    .nullish()
    .transform((options) => options ?? []),
})
type Info = z.infer<typeof Info>

const isolation =
  'A container: its own namespaces, no network, a read-only system, filtered system calls and no privilege for the user; the kernel is shared.'
const unknownLimits = { memory: 'not probed', cpu: 'not probed', pids: 'not probed', disk: 'not probed' } as const

/** Never throws. */
export async function probeEngine(parts: ProbeParts, signal: AbortSignal): Promise<Probe> {
  try {
    return await probe(parts, signal)
  } catch (error) {
    return { available: false, reason: refusalText(error), isolation, limits: unknownLimits, features: [] }
  }
}

async function probe(parts: ProbeParts, signal: AbortSignal): Promise<Probe> {
  const { engine } = parts
  const options = { signal }
  const [rawInfo, version] = await Promise.all([
    engine.call((docker) => docker.info(), options),
    engine.call((docker) => docker.version(), options),
  ])
  const info = Info.parse(rawInfo)
  const enforced = await limits(info, parts.disks)
  const known = {
    version: `Docker ${version.Version}`,
    isolation,
    limits: enforced,
    // A disk that has its size for sure is an image, and can be copied.
    features: [...(enforced.disk === true ? ['snapshot'] : []), ...featuresOf(info, version, parts.mayRaise)],
  }
  const reason = unusable(info) ?? (await runProbe(parts, signal))
  return reason === undefined ? { available: true, ...known } : { available: false, reason, ...known }
}

function unusable(info: Info): string | undefined {
  const has = (name: string) => info.SecurityOptions.some((option) => option.split(',').includes(`name=${name}`))
  const advice = 'Use the system engine, or the namespace runtime.'
  if (process.getuid?.() !== 0) return `the operator does not run as root, which the disks of docker sandboxes need. ${advice}`
  if (has('rootless')) return `the engine is rootless: the disks of sandboxes cannot be given to their users. ${advice}`
  if (has('userns')) return `the engine remaps users (userns-remap): the sidecar could not reach its directories. ${advice}`
  if (!has('seccomp') || info.SecurityOptions.some((option) => option.includes('profile=unconfined'))) {
    return 'the engine does not filter system calls (seccomp). Give it its default profile back.'
  }
  return undefined
}

async function limits(info: Info, disks: WorkspaceDisks): Promise<Record<LimitName, true | string>> {
  const claim = (holds: boolean, what: string): true | string => holds || `the kernel offers the engine no ${what} control group`
  const memory = claim(info.MemoryLimit, 'memory')
  const canSwap = memory === true && !info.SwapLimit && (await hasSwap())
  return {
    memory: canSwap ? 'memory beyond the limit goes to swap: boot with swapaccount=1, or switch swap off' : memory,
    cpu: claim(info.CpuCfsQuota, 'cpu quota'),
    pids: claim(info.PidsLimit, 'pids'),
    disk: await disks.support(),
  }
}

const hasSwap = async (): Promise<boolean> => (await readFile('/proc/swaps', 'utf8')).trim().split('\n').length > 1

function featuresOf(info: Info, version: Docker.DockerVersion, mayRaise: boolean): string[] {
  const parts = version.Components ?? []
  return [
    `cgroup-v${info.CgroupVersion}`,
    ...(canFreeze(info) ? ['pause'] : []),
    ...(Object.hasOwn(info.Runtimes, 'runsc') ? ['gvisor'] : []),
    ...(mayRaise ? ['oom-protection'] : []),
    ...parts.flatMap(({ Name, Version, Details }) => versionWarnings(Name, Version, Details?.['GitCommit'])),
  ]
}

/** Every group of version 2 can be frozen; with version 1 a controller does it, which a kernel may lack. */
const canFreeze = ({ CgroupVersion }: Info): boolean => CgroupVersion === '2' || readCgroupLayout().v1.has('freezer')

/** Why a hardened container cannot be run; undefined when one ran. */
async function runProbe(parts: ProbeParts, signal: AbortSignal): Promise<string | undefined> {
  await sweepBareContainers(parts.engine, parts.operatorId, { signal })
  const image = await anyImage(parts, signal)
  if (image === undefined) {
    return `no image to start from is on this machine: npm start makes ${parts.defaultImage}, or fetch one with docker pull debian:12`
  }
  const facts = await parts.library.facts(image.id, image.name)
  const files = Object.entries(facts.files).map(([place, file]) => `${file}:${place}:ro`)
  const spec = {
    Image: image.id,
    User: '0:0',
    Entrypoint: [`${sidecarPaths.program}/node`, '-e', ''],
    Cmd: [],
    Labels: probeLabels(parts.operatorId),
    HostConfig: {
      ...hardening(parts.mayRaise),
      AutoRemove: true,
      ...limitsOf({ memoryMb: 256, cpuCores: 1, pids: 64 }),
      Binds: [`${parts.programDir}:${sidecarPaths.program}:ro`, ...files],
    },
  }
  const { id } = await parts.engine.call((docker) => docker.createContainer(spec), { signal })
  try {
    return await outcome(parts.engine, id, signal)
  } finally {
    await accepting(
      [404, 409],
      parts.engine.call((docker) => docker.getContainer(id).remove({ force: true, v: true })),
    )
  }
}

async function outcome(engine: Engine, id: string, signal: AbortSignal): Promise<string | undefined> {
  const { status, said } = await engine.call(
    async (docker) => {
      const container = docker.getContainer(id)
      // Both before the start: the engine removes the container as soon as it ends, also when the operator is gone by then.
      const output = buffer(await container.attach({ stream: true, stdout: true, stderr: true }))
      const removed = container.wait({ condition: 'removed' })
      removed.catch(() => undefined) // A start that fails is told instead.
      await container.start()
      return { status: z.object({ StatusCode: z.number() }).parse(await removed).StatusCode, said: await output }
    },
    { signal },
  )
  return status === 0 ? undefined : `a hardened container ended with status ${status}: ${logText(said)}`
}

/** The default image, else any that is there: the probe is about the engine. */
async function anyImage(parts: ProbeParts, signal: AbortSignal): Promise<{ id: string; name: string } | undefined> {
  const { name } = parseReference(parts.defaultImage)
  const wanted = await accepting(
    [404],
    parts.engine.call((docker) => docker.getImage(name).inspect(), { signal }),
  )
  if (wanted) return { id: wanted.Id, name }
  const others = await parts.engine.call((docker, abortSignal) => docker.listImages({ abortSignal }), { signal })
  for (const { Id, RepoTags } of others) {
    const tag = RepoTags?.[0] ?? Id
    const runs = await parts.library.facts(Id, tag).catch(() => undefined)
    if (runs) return { id: Id, name: tag }
  }
  return undefined
}
