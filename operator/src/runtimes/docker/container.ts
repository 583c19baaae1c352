// The hardened container of a sandbox.
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { sandboxUser, sidecarPaths } from '@atoll/protocol/sidecar'
import type Docker from 'dockerode'
import type { Plan } from '../../sandboxes/runtime.ts'
import type { ResolvedImage } from './images.ts'

export const labels = { operator: 'atoll.operator', sandbox: 'atoll.sandbox', version: 'atoll.version', image: 'atoll.image' } as const

const mebibyte = 1024 * 1024
const sharedMemoryBytes = 64 * mebibyte
const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Host directories of a sandbox. */
export interface SandboxFolders {
  readonly program: string
  readonly channel: string
  readonly state: string
  /** The disk's root, with `home` and `tmp`. */
  readonly disk: string
}

export interface ContainerParts {
  readonly plan: Plan
  readonly image: ResolvedImage
  readonly folders: SandboxFolders
  readonly operatorId: string
  readonly command: readonly string[]
  readonly mayRaise: boolean
}

export const containerName = (id: string): string => `atoll-${id}`

/** A name that every host accepts, and short enough for a prompt. */
const hostnameOf = (id: string): string =>
  id
    .replaceAll(/[^a-zA-Z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')
    .slice(0, 12)
    .replace(/-$/, '')

/** Place on the disk of a directory for which the image asks a volume. */
export const volumeFolder = (disk: string, index: number): string => join(disk, 'volumes', String(index))

const sysResource = 1n << 24n

/**
 * Whether limits may be raised and processes protected from the out-of-memory killer on this machine. Where the operator, as root, lacks
 * CAP_SYS_RESOURCE, the machine is itself a container or a locked-down guest, and its engine could not start a container that asks for it.
 */
export function mayRaiseLimits(status = readFileSync('/proc/self/status', 'utf8')): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'
  return (BigInt(`0x${effective}`) & sysResource) !== 0n
}

/** What no container of ours does without, whatever runs in it. */
export const hardening = (mayRaise: boolean): Docker.HostConfig & { CgroupnsMode: string } => ({
  CapDrop: ['ALL'],
  CapAdd: ['SETUID', 'SETGID', 'KILL', 'CHOWN'],
  // Without a seccomp entry the engine applies its own default profile; the probe checks that it has one.
  SecurityOpt: ['no-new-privileges'],
  ReadonlyRootfs: true,
  NetworkMode: 'none',
  IpcMode: 'private',
  CgroupnsMode: 'private',
  Init: true,
  RestartPolicy: { Name: 'no' },
  LogConfig: { Type: 'json-file', Config: { 'max-size': '1m', 'max-file': '1' } },
  ShmSize: sharedMemoryBytes,
  Ulimits: [{ Name: 'core', Soft: 0, Hard: 0 }, ...(mayRaise ? [{ Name: 'nofile', Soft: 65_536, Hard: 1_048_576 }] : [])],
  // The sidecar outlives a user process that takes all memory; it gives its children the usual score.
  ...(mayRaise && { OomScoreAdj: -500 }),
})

export const limitsOf = ({ memoryMb, cpuCores, pids }: Pick<Plan, 'memoryMb' | 'cpuCores' | 'pids'>) => ({
  Memory: memoryMb * mebibyte,
  // Equal to the memory: no swap.
  MemorySwap: memoryMb * mebibyte,
  // The engine refuses more than the machine has.
  NanoCpus: Math.round(Math.min(cpuCores, availableParallelism()) * 1e9),
  PidsLimit: pids,
})

/** The image's variables are not for our Node: one like NODE_OPTIONS could keep it from starting. A bare name takes one away. */
export const environmentOf = (variables: readonly string[]): string[] => [
  `PATH=${searchPath}`,
  ...variables.filter((name) => name !== 'PATH'),
]

const bindsOf = ({ image, folders }: ContainerParts): string[] => [
  `${folders.program}:${sidecarPaths.program}:ro`,
  `${folders.channel}:${sidecarPaths.channel}`,
  `${folders.state}:${sidecarPaths.state}`,
  `${join(folders.disk, 'home')}:${sandboxUser.home}`,
  `${join(folders.disk, 'tmp')}:/tmp`,
  ...image.volumes.map((place, index) => `${volumeFolder(folders.disk, index)}:${place}`),
  ...Object.entries(image.facts.files).map(([place, file]) => `${file}:${place}:ro`),
]

export function containerSpec(parts: ContainerParts): Docker.ContainerCreateOptions {
  const { plan, image, operatorId, command } = parts
  const hostConfig = {
    ...hardening(parts.mayRaise),
    ...limitsOf(plan),
    Binds: bindsOf(parts),
    Tmpfs: { [sidecarPaths.secrets]: 'size=8m,mode=1777,noexec,nosuid,nodev' },
  }
  return {
    name: containerName(plan.id),
    Image: image.id,
    Hostname: hostnameOf(plan.id),
    User: '0:0',
    Entrypoint: [...command],
    Cmd: [],
    Env: environmentOf(image.variables),
    WorkingDir: '/',
    Healthcheck: { Test: ['NONE'] },
    StopSignal: 'SIGTERM',
    StopTimeout: 3,
    Labels: {
      [labels.operator]: operatorId,
      [labels.sandbox]: plan.id,
      [labels.version]: '1',
      [labels.image]: image.name,
    },
    HostConfig: hostConfig,
  }
}
