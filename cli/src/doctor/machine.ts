// The machine itself: processor, kernel, Node, disk, and what limits are made of.
import { constants } from 'node:fs'
import { access, mkdir, mkdtemp, readFile, rm, rmdir, statfs, truncate, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import type { Check } from './check.ts'
import { firstLine, runProgram } from './command.ts'
import { isOlder, parseVersion } from './version.ts'

const oldestKernel = [5, 10]
const wantedFreeGb = 10
const gb = 1024 ** 3

export function checkSystem(): Check[] {
  const kernel = os.release()
  const isOldKernel = isOlder(parseVersion(kernel), oldestKernel)
  const isOldNode = isOlder(parseVersion(process.version), [24])
  return [
    {
      id: 'kernel',
      title: 'kernel',
      status: isOldKernel ? 'warning' : 'ok',
      seen: `${os.type()} ${kernel} on ${process.arch}, ${os.availableParallelism()} processors, ${(os.totalmem() / gb).toFixed(1)} GB memory`,
      ...(isOldKernel && { advice: `Older than ${oldestKernel.join('.')}: update, since it gets few security fixes.` }),
    },
    {
      id: 'node',
      title: 'Node',
      status: isOldNode ? 'problem' : 'ok',
      seen: process.version,
      ...(isOldNode && { advice: 'The operator runs on Node 24, which npm install puts into the repository.' }),
    },
  ]
}

/** Free room where the operator keeps disks. The folder need not exist yet. */
export async function checkDisk(folder: string): Promise<Check> {
  const about = { id: 'disk', title: 'disk' }
  const existing = await nearestFolder(folder)
  const { bavail, bsize, files, ffree } = await statfs(existing)
  const freeGb = (bavail * bsize) / gb
  const seen = `${freeGb.toFixed(1)} GB free for ${folder}`
  // Some file systems count no inodes at all.
  if (files > 0 && ffree / files < 0.05)
    return { ...about, status: 'warning', seen: `${seen}, but few inodes`, advice: 'Remove small files.' }
  if (freeGb < wantedFreeGb) return { ...about, status: 'warning', seen, advice: `Make room: one sandbox may take ${wantedFreeGb} GB.` }
  return { ...about, status: 'ok', seen }
}

async function nearestFolder(folder: string): Promise<string> {
  const isThere = await access(folder).then(
    () => true,
    () => false,
  )
  return isThere || folder === path.dirname(folder) ? folder : nearestFolder(path.dirname(folder))
}

/** Disks of limited size are files on loop devices; one is really made. */
export async function checkLoopDevices(): Promise<Check> {
  const about = { id: 'loop', title: 'loop devices' }
  const advice = 'Needed to limit the disk of a sandbox: run the operator as root on the machine itself (modprobe loop).'
  const folder = await mkdtemp(path.join(os.tmpdir(), 'atoll-doctor-'))
  try {
    const file = path.join(folder, 'disk.img')
    await writeFile(file, '')
    await truncate(file, 1_048_576)
    const made = await runProgram('losetup', ['--find', '--show', file])
    if (made.isMissing) return { ...about, status: 'unknown', seen: 'not probed: losetup (package mount) is not installed' }
    if (made.code !== 0) return { ...about, status: 'warning', seen: `refused: ${firstLine(made.output)}`, advice }
    await runProgram('losetup', ['--detach', firstLine(made.output)])
    return { ...about, status: 'ok', seen: `made ${firstLine(made.output)}` }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const wantedControllers = ['memory', 'cpu', 'pids'] as const

/** Limits are control groups; one is really made under each controller. */
export async function checkControlGroups(): Promise<Check> {
  const about = { id: 'cgroups', title: 'control groups' }
  const { version, places } = await controllers()
  const missing = wantedControllers.filter((name) => !places.has(name))
  const refused: string[] = []
  for (const [name, folder] of places) if (!(await canMakeGroup(folder))) refused.push(name)
  const has = wantedControllers.filter((name) => places.has(name) && !refused.includes(name))
  const seen = `version ${version}; limits: ${has.join(', ') || 'none'}`
  if (missing.length > 0) {
    return {
      ...about,
      status: 'warning',
      seen: `${seen}; the kernel offers no ${missing.join(', ')}`,
      advice: 'Such a limit cannot hold here. See cgroup_enable= in the kernel command line.',
    }
  }
  if (refused.length > 0)
    return {
      ...about,
      status: 'warning',
      seen: `${seen}; no group may be made for ${refused.join(', ')}`,
      advice: 'Run the operator as root, or delegate control groups to its user.',
    }
  return { ...about, status: 'ok', seen }
}

async function controllers(): Promise<{ version: '1' | '2'; places: Map<string, string> }> {
  const unified = '/sys/fs/cgroup'
  const listed = await readFile(`${unified}/cgroup.controllers`, 'utf8').catch(() => undefined) // Version 1 does not have this file.
  const places = new Map<string, string>()
  if (listed !== undefined) {
    const offered = listed.trim().split(' ')
    for (const name of wantedControllers) if (offered.includes(name)) places.set(name, unified)
    return { version: '2', places }
  }
  for (const line of (await readFile('/proc/mounts', 'utf8')).split('\n')) {
    const [, folder = '', type, options = ''] = line.split(' ')
    if (type !== 'cgroup') continue
    for (const name of wantedControllers) if (options.split(',').includes(name)) places.set(name, folder)
  }
  return { version: '1', places }
}

async function canMakeGroup(folder: string): Promise<boolean> {
  const group = path.join(folder, `atoll-doctor-${process.pid}`)
  try {
    await access(folder, constants.W_OK)
    await mkdir(group)
    await rmdir(group)
    return true
  } catch {
    return false // Whatever the reason is, no limit can be set here.
  }
}
