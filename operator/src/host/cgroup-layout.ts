// Where the controllers of this machine are: cgroup v1 has a hierarchy each, v2 one for all, and a hybrid host both.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export const controllers = ['memory', 'cpu', 'pids'] as const
export type Controller = (typeof controllers)[number]

export interface CgroupLayout {
  /** Mount point of each v1 hierarchy, by every controller that it has. */
  readonly v1: ReadonlyMap<string, string>
  /** The v2 hierarchy, and the controllers that its root can give away. */
  readonly v2: { readonly root: string; readonly controllers: ReadonlySet<string> } | undefined
}

/** Reads the kernel's mount table; `mountinfo` stands for it in tests. */
export function readCgroupLayout(mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): CgroupLayout {
  const v1 = new Map<string, string>()
  let v2: CgroupLayout['v2']
  for (const line of mountinfo.split('\n')) {
    const [mount = '', origin = ''] = line.split(' - ')
    const point = mount.split(' ')[4] ?? ''
    const [type, , options = ''] = origin.split(' ')
    if (type === 'cgroup') for (const option of options.split(',')) v1.set(option, v1.get(option) ?? point)
    if (type === 'cgroup2') v2 ??= { root: point, controllers: new Set(words(join(point, 'cgroup.controllers'))) }
  }
  return { v1, v2 }
}

const words = (path: string): string[] => readFileSync(path, 'utf8').split(/\s+/).filter(Boolean)
