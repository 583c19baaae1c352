// What this machine must have before any sandbox can be made, checked and prepared once.
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { chmod, mkdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { sidecarPaths } from '@atoll/protocol/sidecar'
import type { Cgroups } from '../../host/cgroup.ts'
import { hostEnvironment } from '../../host/command.ts'
import type { NamespaceRuntimeOptions } from './namespace-runtime.ts'
import { LauncherReserve } from './reserve.ts'
import { hostRoot, imageRoot } from './root-file-system.ts'
import type { SandboxFolders } from './sandbox-folder.ts'
import { hostArchitecture, seccompFilter } from './seccomp.ts'
import { defaultRangesDir, groupOf, UidRanges } from './uid-ranges.ts'

export interface Machine {
  /** Where the sidecar's program stands on the host. */
  readonly programDir: string
  readonly rootfsDir: string
  readonly ranges: UidRanges
  readonly reserve: LauncherReserve
  /** bubblewrap's arguments for the host's programs, or for an image's directory. */
  rootOf(image: string, rootfs: string | undefined): readonly string[]
}

/** How the sidecar is started inside a sandbox. */
const sidecarCommand = [join(sidecarPaths.program, 'node'), join(sidecarPaths.program, 'sidecar.mjs')] as const

const packages: Readonly<Record<string, string>> = {
  bwrap: 'bubblewrap',
  nsenter: 'util-linux',
  unshare: 'util-linux',
  setpriv: 'util-linux',
}

const isInstalled = (program: string): boolean =>
  (hostEnvironment['PATH'] ?? '').split(':').some((directory) => existsSync(join(directory, program)))

/** The first directory on the way that other users may not pass, or undefined. */
function impassable(directory: string): string | undefined {
  for (let at = realpathSync(directory); ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return at
    if (at === dirname(at)) return undefined
  }
}

function userNamespacesRefused(): boolean {
  try {
    return Number(readFileSync('/proc/sys/user/max_user_namespaces', 'utf8')) === 0
  } catch {
    return true // A kernel without them.
  }
}

/** Why there can be no sandbox here, and what to do; undefined when nothing speaks against it. */
export function reasonAgainst(): string | undefined {
  if (process.platform !== 'linux') return 'namespace sandboxes need Linux'
  if (hostArchitecture() === undefined) return `namespace sandboxes have no system call filter for this processor (${process.arch})`
  const missing = Object.keys(packages).filter((program) => !isInstalled(program))
  if (missing.length > 0) {
    const needed = [...new Set(missing.map((program) => packages[program]))].join(' ')
    return `${missing.join(', ')} not found: install with \`apt-get install ${needed}\``
  }
  if (process.getuid?.() !== 0) return 'namespace sandboxes need root: start the operator with `sudo`'
  if (userNamespacesRefused()) return 'this kernel allows no user namespaces: enable with `sysctl -w user.max_user_namespaces=10000`'
  return undefined
}

async function makePassable(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  // Passable, and what others could read or list of it stays as it is.
  await chmod(directory, (statSync(directory).mode & 0o7777) | 0o011)
}

/** Logs of launchers whose operator died before they had a sandbox. */
function removeStaleLogs(directory: string): void {
  for (const name of readdirSync(directory)) {
    const pid = name.split('-')[1] ?? ''
    if (!existsSync(join('/proc', pid))) rmSync(join(directory, name), { force: true })
  }
}

/** Groups of launchers that died with their operator. That a range is taken means nothing: another operator may have it by now. */
async function removeStaleGroups(cgroups: Cgroups, folders: SandboxFolders): Promise<void> {
  const records = (await folders.ids()).map((id) => folders.read(id))
  const known = new Set(records.flatMap((record) => (record ? [groupOf(record.base)] : [])))
  for (const id of cgroups.ids().filter((group) => !known.has(group))) {
    await cgroups.kill(id)
    await cgroups.remove(id)
  }
}

export async function prepareMachine(options: NamespaceRuntimeOptions, folders: SandboxFolders): Promise<Machine | string> {
  const reason = reasonAgainst()
  const architecture = hostArchitecture()
  if (reason !== undefined || architecture === undefined) return reason ?? 'unknown processor'
  const { stateDir, runDir, programDir } = options
  const own = join(stateDir, 'namespace')
  for (const directory of [stateDir, runDir, folders.directory, own]) {
    await makePassable(directory)
    const closed = impassable(directory)
    if (closed)
      return `the users of sandboxes cannot pass ${closed}: allow it with \`chmod o+x ${closed}\`, or choose other state and run folders`
  }
  const closed = impassable(programDir)
  if (closed) return `the users of sandboxes cannot pass ${closed}, where the sidecar's program is: allow it with \`chmod o+x ${closed}\``
  const seccompPath = join(own, 'seccomp.bpf')
  writeFileSync(seccompPath, seccompFilter(architecture), { mode: 0o600 })
  const ranges = new UidRanges(options.uidRangesDir ?? defaultRangesDir, folders.directory)
  await ranges.open(existsSync)
  await removeStaleGroups(options.cgroups, folders)
  const launchers = join(own, 'launchers')
  mkdirSync(launchers, { recursive: true, mode: 0o700 })
  removeStaleLogs(launchers)
  const reserve = new LauncherReserve({
    ranges,
    directory: launchers,
    seccompPath,
    command: sidecarCommand,
    cgroups: options.cgroups,
    log: options.log,
  })
  const repository = resolve(import.meta.dirname, '../../../..')
  const host = hostRoot(join(own, 'etc'), [stateDir, runDir, programDir, repository])
  return {
    programDir,
    rootfsDir: join(stateDir, 'rootfs'),
    ranges,
    reserve,
    rootOf: (image, rootfs) => (rootfs === undefined ? host : imageRoot(rootfs, join(own, `etc-of-${image}`))),
  }
}
