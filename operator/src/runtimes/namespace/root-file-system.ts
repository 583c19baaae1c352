// What a sandbox sees as its file system, as bubblewrap's arguments.
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, realpathSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Failure } from '@atoll/protocol'
import { sandboxUser, sidecarPaths } from '@atoll/protocol/sidecar'

/** What uid 0 of a sandbox may do there: be other users, and look after what is theirs. */
export const sidecarCapabilities = ['setuid', 'setgid', 'kill', 'chown'] as const

export const hostName = 'sandbox'

/** What of the host's /etc programs need and no secret is in. */
const sharedEtc = ['alternatives', 'ld.so.cache', 'localtime', 'ssl/certs', 'pki/ca-trust/extracted', 'pki/tls/certs'] as const

const { uid, gid, name: userName, home } = sandboxUser
const userLine = `${userName}:x:${uid}:${gid}::${home}:/bin/bash\n`
const groupLine = `${userName}:x:${gid}:\n`

const generatedEtc: Readonly<Record<string, string>> = {
  passwd: `root:x:0:0:root:/:/bin/sh\n${userLine}nobody:x:65534:65534:nobody:/:/bin/false\n`,
  group: `root:x:0:\n${groupLine}nogroup:x:65534:\n`,
  hostname: `${hostName}\n`,
  hosts: `127.0.0.1 localhost ${hostName}\n::1 localhost\n`,
  'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
  'resolv.conf': '',
}

/** Never taken over from an image: who may enter, and what names this machine. */
const hiddenImageEtc = new Set([
  'shadow',
  'gshadow',
  'shadow-',
  'gshadow-',
  'passwd-',
  'group-',
  'ssh',
  'sudoers',
  'sudoers.d',
  'machine-id',
])
/** Top-level directories that the sandbox has of its own. */
const ownTop = new Set([
  'proc',
  'dev',
  'sys',
  'tmp',
  'run',
  'home',
  'root',
  'boot',
  'mnt',
  'media',
  'srv',
  'etc',
  'opt',
  'var',
  'lost+found',
])

const kindOf = (path: string): 'directory' | 'file' | 'link' | 'other' | 'missing' => {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (!stats) return 'missing'
  if (stats.isSymbolicLink()) return 'link'
  if (stats.isDirectory()) return 'directory'
  return stats.isFile() ? 'file' : 'other'
}

/** A read-only view of one path of the source; a link stays a link, so that it resolves inside. */
function view(source: string, target: string): string[] {
  const kind = kindOf(source)
  if (kind === 'link') return ['--symlink', readlinkSync(source), target]
  return kind === 'directory' || kind === 'file' ? ['--ro-bind', source, target] : []
}

/** Writes the small /etc that every sandbox with the host's programs shares, and says how to mount it. */
export function hostRoot(etcDir: string, privateDirs: readonly string[]): string[] {
  mkdirSync(etcDir, { recursive: true, mode: 0o755 })
  for (const [name, content] of Object.entries(generatedEtc)) writeFileSync(join(etcDir, name), content, { mode: 0o644 })
  const shared: string[] = []
  for (const name of sharedEtc) {
    const source = join('/etc', name)
    const stats = statSync(source, { throwIfNoEntry: false })
    if (!stats) continue
    // The place to mount on must be there, since the directory around it is read-only inside.
    if (stats.isDirectory()) mkdirSync(join(etcDir, name), { recursive: true })
    else writeFileSync(join(etcDir, name), '')
    shared.push('--ro-bind', source, join('/etc', name))
  }
  const programs = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'].flatMap((name) => view(join('/', name), join('/', name)))
  const isBelow = (directory: string, other: string): boolean => directory.startsWith(`${other}/`)
  const hidden = privateDirs.filter((directory) => isBelow(directory, '/usr') && !privateDirs.some((other) => isBelow(directory, other)))
  return [
    '--ro-bind',
    '/usr',
    '/usr',
    ...hidden.flatMap((directory) => ['--tmpfs', directory]),
    ...programs,
    '--ro-bind',
    etcDir,
    '/etc',
    ...shared,
  ]
}

/** The same from an image: a directory that holds a whole root file system. */
export function imageRoot(rootfs: string, etcDir: string): string[] {
  mkdirSync(etcDir, { recursive: true, mode: 0o755 })
  const args: string[] = []
  const take = (directory: string, skip: ReadonlySet<string>): void => {
    for (const name of readdirOrNone(join(rootfs, directory))) {
      if (!skip.has(name)) args.push(...view(join(rootfs, directory, name), join('/', directory, name)))
    }
  }
  take('', ownTop)
  take('etc', new Set([...hiddenImageEtc, ...Object.keys(generatedEtc)]))
  take('opt', new Set(['atoll']))
  take('var', new Set(['lib', 'tmp', 'run', 'lock']))
  take('var/lib', new Set(['atoll']))
  for (const [name, content] of Object.entries(generatedEtc)) {
    writeFileSync(join(etcDir, name), accountsOf(rootfs, name) ?? content, { mode: 0o644 })
    args.push('--ro-bind', join(etcDir, name), join('/etc', name))
  }
  return args
}

const readdirOrNone = (directory: string): string[] => (kindOf(directory) === 'directory' ? readdirSync(directory) : [])

/** The image's own accounts or groups, with the sandbox's user in place of whoever has its number or name. */
function accountsOf(rootfs: string, name: string): string | undefined {
  const path = join(rootfs, 'etc', name)
  const line = name === 'passwd' ? userLine : name === 'group' ? groupLine : undefined
  if (line === undefined || kindOf(path) !== 'file') return undefined
  const others = readFileSync(path, 'utf8')
    .split('\n')
    .filter((entry) => entry && !entry.startsWith(`${userName}:`) && entry.split(':')[2] !== String(uid))
  return `${others.join('\n')}\n${line}`
}

/** Places where a glibc program's loader is, by processor. */
const loaders: Readonly<Record<string, readonly string[]>> = {
  x64: ['lib64/ld-linux-x86-64.so.2', 'usr/lib64/ld-linux-x86-64.so.2', 'usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2'],
  arm64: ['lib/ld-linux-aarch64.so.1', 'usr/lib/ld-linux-aarch64.so.1', 'usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1'],
}

const imageName = /^[a-z0-9][a-z0-9._-]{0,63}$/

/** The directory of an image, or undefined for the host's own programs. @throws Failure `image.not_found`, `image.unsupported` */
export function imageDirectory(image: string, rootfsDir: string): string | undefined {
  if (image === '' || image === 'host') return undefined
  const directory = join(rootfsDir, image)
  if (!imageName.test(image) || !statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    throw new Failure(
      'image.not_found',
      `There is no image "${image.slice(0, 80)}" for namespace sandboxes. Leave image empty for the host's programs, or have the operator's owner put a root file system at ${rootfsDir}/NAME.`,
    )
  }
  const root = realpathSync(directory)
  const hasLoader = (loaders[process.arch] ?? []).some((path) => {
    try {
      return realpathSync(join(root, path)).startsWith(`${root}/`)
    } catch {
      return false // A loader that is not there.
    }
  })
  if (hasLoader) return root
  throw new Failure(
    'image.unsupported',
    `The image "${image}" has no glibc for this machine's processor (${process.arch}), which the sidecar needs.`,
  )
}

export interface SandboxPlaces {
  readonly program: string
  /** Harnesses for every sandbox; undefined when none were installed. */
  readonly harnesses: string | undefined
  readonly channel: string
  readonly sidecar: string
  /** With `home` and `tmp`. */
  readonly disk: string
}

/** Everything about a sandbox but its programs: namespaces, capabilities, and the places that are its own. */
export const sandboxArgs = (root: readonly string[], places: SandboxPlaces): string[] => [
  ...['pid', 'ipc', 'uts', 'net', 'cgroup-try'].map((namespace) => `--unshare-${namespace}`),
  ...['--hostname', hostName, '--new-session', '--clearenv', '--setenv', 'PATH', '/usr/local/bin:/usr/bin:/bin', '--chdir', '/'],
  ...['--cap-drop', 'ALL', ...sidecarCapabilities.flatMap((name) => ['--cap-add', `CAP_${name.toUpperCase()}`])],
  // Made first: bubblewrap would make the way to a closed directory as closed as that.
  ...['/etc', '/home', '/opt', '/run', '/var', '/var/lib', '/mnt', '/srv'].flatMap((directory) => ['--perms', '0755', '--dir', directory]),
  ...['--perms', '0700', '--dir', '/root'],
  ...root,
  ...['--proc', '/proc', '--dev', '/dev', '--perms', '1777', '--size', String(64 * 1024 * 1024), '--tmpfs', '/dev/shm'],
  ...['--bind', join(places.disk, 'home'), sandboxUser.home, '--bind', join(places.disk, 'tmp'), '/tmp'],
  ...['--ro-bind', places.program, sidecarPaths.program, '--bind', places.sidecar, sidecarPaths.state],
  ...(places.harnesses === undefined ? [] : ['--ro-bind', places.harnesses, sidecarPaths.harnesses]),
  ...['--bind', places.channel, sidecarPaths.channel],
  ...['--perms', '1777', '--size', String(8 * 1024 * 1024), '--tmpfs', sidecarPaths.secrets],
  ...['--symlink', '../tmp', '/var/tmp', '--symlink', '../run', '/var/run'],
  ...['--remount-ro', '/dev', '--remount-ro', '/'],
]
