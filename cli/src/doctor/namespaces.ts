// What the `namespace` runtime stands on.
import { readFile } from 'node:fs/promises'
import type { Check } from './check.ts'
import { firstLine, runProgram } from './command.ts'

export async function checkBubblewrap(): Promise<Check> {
  const about = { id: 'bubblewrap', title: 'bubblewrap' }
  const version = await runProgram('bwrap', ['--version'])
  if (version.isMissing) return { ...about, status: 'problem', seen: 'not installed', advice: 'apt-get install bubblewrap' }
  const tried = await runProgram('bwrap', [
    '--unshare-all',
    '--die-with-parent',
    '--ro-bind',
    '/',
    '/',
    '--dev',
    '/dev',
    '--proc',
    '/proc',
    'true',
  ])
  if (tried.code === 0) return { ...about, status: 'ok', seen: `${firstLine(version.output)}, started a program in namespaces of its own` }
  return { ...about, status: 'problem', seen: `cannot start a program: ${firstLine(tried.output)}`, advice: await namespaceAdvice() }
}

export async function checkUserNamespaces(): Promise<Check> {
  const about = { id: 'user-namespaces', title: 'user namespaces' }
  const tried = await runProgram('unshare', ['--user', '--map-root-user', 'true'])
  if (tried.isMissing) return { ...about, status: 'unknown', seen: 'not probed: unshare (package util-linux) is not installed' }
  if (tried.code === 0) return { ...about, status: 'ok', seen: 'made one' }
  return { ...about, status: 'problem', seen: `refused: ${firstLine(tried.output)}`, advice: await namespaceAdvice() }
}

const switches: readonly { readonly file: string; readonly isOff: (value: string) => boolean; readonly advice: string }[] = [
  {
    file: '/proc/sys/kernel/unprivileged_userns_clone',
    isOff: (value) => value === '0',
    advice: 'sysctl -w kernel.unprivileged_userns_clone=1',
  },
  { file: '/proc/sys/user/max_user_namespaces', isOff: (value) => value === '0', advice: 'sysctl -w user.max_user_namespaces=15000' },
  {
    file: '/proc/sys/kernel/apparmor_restrict_unprivileged_userns',
    isOff: (value) => value === '1',
    advice: 'Give bwrap an AppArmor profile, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
  },
]

async function namespaceAdvice(): Promise<string> {
  for (const { file, isOff, advice } of switches) {
    const value = await readFile(file, 'utf8').catch(() => '') // Each of them exists on some kernels only.
    if (isOff(value.trim())) return advice
  }
  return 'The kernel, or the container that this runs in, forbids new namespaces. Run the operator on the machine itself, or as root.'
}
