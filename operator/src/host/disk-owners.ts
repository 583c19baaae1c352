// Gives the files of one sandbox's disk to another sandbox, whose user ids on the host are others.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, lstat } from 'node:fs/promises'
import { hostEnvironment, runCommand } from './command.ts'
import type { DiskOwner } from './workspace-disk.ts'

/** User ids that a sandbox has, from its first one on; what is owned by others is the machine's own. */
const idsOfSandbox = 65_536
const maxListBytes = 256 * 1024 * 1024

const list = (program: string, args: readonly string[]): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    execFile(program, args, { env: { ...hostEnvironment }, encoding: 'buffer', maxBuffer: maxListBytes }, (error, stdout) => {
      if (error) reject(new Error(`${program} failed: ${error.message}`, { cause: error }))
      else resolve(stdout)
    })
  })

/** Files that run as their owner or group: a change of these takes that from them. By mode; names end with a NUL byte. */
async function raisingFiles(root: string): Promise<Map<string, Buffer[]>> {
  const found = await list('find', [root, '-xdev', '-type', 'f', '-perm', '/6000', '-printf', '%m %p\\0'])
  const byMode = new Map<string, Buffer[]>()
  for (let at = 0; at < found.length; ) {
    const end = found.indexOf(0, at) + 1
    const blank = found.indexOf(0x20, at)
    const mode = found.subarray(at, blank).toString()
    byMode.set(mode, [...(byMode.get(mode) ?? []), found.subarray(blank + 1, end)])
    at = end
  }
  return byMode
}

async function setModes(mode: string, names: readonly Buffer[]): Promise<void> {
  const xargs = spawn('xargs', ['-0', 'chmod', mode, '--'], { env: { ...hostEnvironment }, stdio: ['pipe', 'ignore', 'ignore'] })
  xargs.stdin.end(Buffer.concat(names))
  const [code] = await once(xargs, 'close')
  if (code !== 0) throw new Error(`chmod ${mode} failed with ${code}`)
}

/** Pairs of user and group ids that there are. */
async function ownersBelow(root: string): Promise<[number, number][]> {
  const found = await runCommand('sh', ['-c', `find "$0" -xdev -printf '%U %G\\n' | sort -u`, root])
  return found
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number))
    .map(([uid = 0, gid = 0]) => [uid, gid])
}

/**
 * Whose disk it was is told by the group of its root, see DiskOwner. Links are not followed, and modes stay as they are.
 * @param root where the disk is mounted, with nobody else at it
 */
export async function giveDisk(root: string, owner: DiskOwner): Promise<void> {
  const from = (await lstat(root)).gid
  const to = owner.mountingGid
  const moved = (id: number): number => (id >= from && id < from + idsOfSandbox ? id - from + to : id)
  if (from !== to) {
    const raising = await raisingFiles(root)
    for (const [uid, gid] of await ownersBelow(root)) {
      if (moved(uid) === uid && moved(gid) === gid) continue
      await runCommand('chown', ['-R', '-P', '-h', `--from=${uid}:${gid}`, `${moved(uid)}:${moved(gid)}`, root])
    }
    for (const [mode, names] of raising) await setModes(mode, names)
  }
  await chown(root, -1, to)
  await chmod(root, 0o710)
}
