// Holds sandboxes to their memory, processor and process limits with control groups, of version 1, 2 or both at once.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '@atoll/protocol'
import { type CgroupLayout, type Controller, controllers, readCgroupLayout } from './cgroup-layout.ts'
import { freezerOf, isFrozen, setFrozen } from './freezer.ts'

export interface CgroupLimits {
  readonly memoryMb: number
  readonly cpuCores: number
  readonly pids: number
}

export interface CgroupUsage {
  readonly memoryBytes: number | undefined
  readonly cpuMs: number | undefined
  readonly pids: number
}

export interface Cgroups {
  /** Whether each limit really holds on this machine, else why not. */
  support(): Readonly<Record<Controller, true | string>>
  /** Makes the group, or gives an existing one these limits. Limits that the machine does not support are left out. */
  create(id: string, limits: CgroupLimits): void
  /** Moves a process; its later children are born in the group. The kernel may take tens of milliseconds. @throws Error `ESRCH` when it has ended */
  add(id: string, pid: number): Promise<void>
  /** The groups that are there, whoever made them. */
  ids(): readonly string[]
  pids(id: string): readonly number[]
  /** Kills until nothing of the group lives. @throws Error when something does not die */
  kill(id: string): Promise<void>
  /** Succeeds when it is gone already. @throws Error when something still lives in it */
  remove(id: string): Promise<void>
  /** Stops every process where it is, until it is thawed. @throws Failure `runtime.unsupported` */
  freeze(id: string): Promise<void>
  /** Succeeds when nothing is frozen, or the group is gone. */
  thaw(id: string): Promise<void>
  isFrozen(id: string): boolean
  /** Whether this machine lets groups be frozen. */
  readonly canFreeze: boolean
  usage(id: string): CgroupUsage
  /** How many processes the kernel killed because the group was out of memory. */
  oomKills(id: string): number
  /** Takes the operator's own group away when no sandbox is in it. */
  close(): void
}

/** What is used where it is there, and advertised by nobody. */
type Helper = 'cpuacct' | 'freezer'

/** One way to a controller: its hierarchy's mount point and its version. */
interface Hierarchy {
  readonly root: string
  readonly version: 1 | 2
}

const cpuPeriodUs = 100_000
const killDeadlineMs = 10_000
const pollMs = 5

const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined

/** A control file of a group that may have gone meanwhile reads as empty. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENODEV') return ''
    throw error
  }
}

const fieldOf = (table: string, name: string): number | undefined => {
  const line = table.split('\n').find((entry) => entry.startsWith(`${name} `))
  return line === undefined ? undefined : Number(line.slice(name.length + 1))
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if (codeOf(error) !== 'ESRCH') throw error
  }
}

class KernelCgroups implements Cgroups {
  readonly #hierarchies: ReadonlyMap<Controller | Helper, Hierarchy>
  readonly #support: Record<Controller, true | string>
  readonly #parent: string

  constructor(name: string, layout: CgroupLayout) {
    this.#parent = join('atoll', name)
    const hierarchies = new Map<Controller | Helper, Hierarchy>()
    const support: Record<Controller, true | string> = { memory: true, cpu: true, pids: true }
    for (const controller of controllers) {
      const found = this.#claim(controller, layout)
      if (typeof found === 'string') support[controller] = found
      else hierarchies.set(controller, found)
    }
    const accounting = layout.v1.get('cpuacct')
    if (accounting && hierarchies.get('cpu')?.version === 1) hierarchies.set('cpuacct', { root: accounting, version: 1 })
    const freezer = freezerOf(layout, this.#parent)
    if (freezer) hierarchies.set('freezer', freezer)
    this.#hierarchies = hierarchies
    this.#support = support
  }

  /** Makes the operator's own group and has the controller handed down to it, which shows whether this works at all. */
  #claim(controller: Controller, layout: CgroupLayout): Hierarchy | string {
    const v1Root = layout.v1.get(controller)
    const { v2 } = layout
    try {
      if (v1Root) {
        mkdirSync(join(v1Root, this.#parent), { recursive: true })
        return { root: v1Root, version: 1 }
      }
      if (!v2) return `this machine has no ${controller} control group mounted`
      if (!v2.controllers.has(controller))
        return `the ${controller} controller is not available at ${v2.root} (see cgroup.controllers there)`
      mkdirSync(join(v2.root, this.#parent), { recursive: true })
      for (const level of [v2.root, join(v2.root, 'atoll'), join(v2.root, this.#parent)]) handDown(level, controller)
      return { root: v2.root, version: 2 }
    } catch (error) {
      const where = v1Root ?? v2?.root
      return `the ${controller} control group at ${where} cannot be used: ${String(error)}. Run the operator as root on the host, or have ${where} delegated to it.`
    }
  }

  support(): Readonly<Record<Controller, true | string>> {
    return this.#support
  }

  create(id: string, limits: CgroupLimits): void {
    for (const directory of this.#directories(id)) mkdirSync(directory, { recursive: true })
    this.#limitMemory(id, Math.round(limits.memoryMb * 1024 * 1024))
    const cpu = this.#at(id, 'cpu')
    // The kernel takes no quota below 1 ms.
    const quotaUs = Math.max(1000, Math.round(limits.cpuCores * cpuPeriodUs))
    if (cpu?.version === 2) writeFileSync(join(cpu.directory, 'cpu.max'), `${quotaUs} ${cpuPeriodUs}`)
    else if (cpu) {
      writeFileSync(join(cpu.directory, 'cpu.cfs_period_us'), String(cpuPeriodUs))
      writeFileSync(join(cpu.directory, 'cpu.cfs_quota_us'), String(quotaUs))
    }
    const pids = this.#at(id, 'pids')
    if (pids) writeFileSync(join(pids.directory, 'pids.max'), String(limits.pids))
  }

  /** Swap counts as memory: a limit that can be dodged by swapping is none. */
  #limitMemory(id: string, bytes: number): void {
    const memory = this.#at(id, 'memory')
    if (!memory) return
    const file = (name: string): string => join(memory.directory, name)
    if (memory.version === 2) {
      writeFileSync(file('memory.max'), String(bytes))
      if (existsSync(file('memory.swap.max'))) writeFileSync(file('memory.swap.max'), '0')
      return
    }
    // The sum of memory and swap may never be below memory, so an old sum must not stand in the way of a higher limit.
    const hasSwapLimit = existsSync(file('memory.memsw.limit_in_bytes'))
    if (hasSwapLimit) writeFileSync(file('memory.memsw.limit_in_bytes'), '-1')
    writeFileSync(file('memory.limit_in_bytes'), String(bytes))
    if (hasSwapLimit) writeFileSync(file('memory.memsw.limit_in_bytes'), String(bytes))
  }

  async add(id: string, pid: number): Promise<void> {
    await Promise.all(this.#directories(id).map((directory) => writeFile(join(directory, 'cgroup.procs'), String(pid))))
  }

  ids(): readonly string[] {
    const parents = this.#roots()
      .map((root) => join(root, this.#parent))
      .filter((parent) => existsSync(parent))
    const entries = parents.flatMap((parent) => readdirSync(parent, { withFileTypes: true }))
    return [...new Set(entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name))]
  }

  pids(id: string): readonly number[] {
    const all = this.#directories(id).flatMap((directory) => read(join(directory, 'cgroup.procs')).split('\n').filter(Boolean).map(Number))
    return [...new Set(all)]
  }

  async kill(id: string): Promise<void> {
    const deadline = Date.now() + killDeadlineMs
    const pidsGroup = this.#at(id, 'pids')
    // A fork bomb cannot outrun the loop when nothing may be born.
    if (pidsGroup && existsSync(pidsGroup.directory)) writeFileSync(join(pidsGroup.directory, 'pids.max'), '0')
    for (;;) {
      for (const directory of this.#directories(id)) {
        if (existsSync(join(directory, 'cgroup.kill'))) writeFileSync(join(directory, 'cgroup.kill'), '1')
      }
      const living = this.pids(id)
      if (living.length === 0) return
      for (const pid of living) kill(pid)
      if (Date.now() > deadline) throw new Error(`processes ${living.join(', ')} of sandbox ${id} do not die`)
      await delay(pollMs)
    }
  }

  async remove(id: string): Promise<void> {
    const deadline = Date.now() + killDeadlineMs
    for (const directory of this.#directories(id)) {
      // A process that has just died holds its group for a moment.
      while (!removed(directory)) {
        if (Date.now() > deadline) throw new Error(`the control group ${directory} is still in use`)
        await delay(pollMs)
      }
    }
  }

  get canFreeze(): boolean {
    return this.#hierarchies.has('freezer')
  }

  async freeze(id: string): Promise<void> {
    const freezer = this.#at(id, 'freezer')
    if (!freezer || !existsSync(freezer.directory)) {
      throw new Failure(
        'runtime.unsupported',
        'This machine has no freezer control group for the sandbox, so it cannot be paused. Stop it instead.',
      )
    }
    await setFrozen(freezer, true)
  }

  async thaw(id: string): Promise<void> {
    const freezer = this.#at(id, 'freezer')
    if (freezer && existsSync(freezer.directory)) await setFrozen(freezer, false)
  }

  isFrozen(id: string): boolean {
    const freezer = this.#at(id, 'freezer')
    return freezer !== undefined && isFrozen(freezer)
  }

  usage(id: string): CgroupUsage {
    const memory = this.#at(id, 'memory')
    const cpu = this.#at(id, 'cpu')
    const accounting = this.#at(id, 'cpuacct')
    const memoryFile = memory && join(memory.directory, memory.version === 2 ? 'memory.current' : 'memory.usage_in_bytes')
    const cpuUs = cpu?.version === 2 ? fieldOf(read(join(cpu.directory, 'cpu.stat')), 'usage_usec') : undefined
    const cpuNs = accounting && Number(read(join(accounting.directory, 'cpuacct.usage')))
    return {
      memoryBytes: memoryFile === undefined ? undefined : Number(read(memoryFile)),
      cpuMs: cpuUs === undefined ? cpuNs && cpuNs / 1e6 : cpuUs / 1000,
      pids: this.pids(id).length,
    }
  }

  oomKills(id: string): number {
    const memory = this.#at(id, 'memory')
    if (!memory) return 0
    const file = memory.version === 2 ? 'memory.events' : 'memory.oom_control'
    return fieldOf(read(join(memory.directory, file)), 'oom_kill') ?? 0
  }

  close(): void {
    for (const root of this.#roots()) {
      for (const directory of [join(root, this.#parent), join(root, 'atoll')]) removed(directory)
    }
  }

  #at(id: string, controller: Controller | Helper): { directory: string; version: 1 | 2 } | undefined {
    const hierarchy = this.#hierarchies.get(controller)
    return hierarchy && { directory: this.#directoryIn(hierarchy.root, id), version: hierarchy.version }
  }

  #directoryIn(root: string, id: string): string {
    if (!/^[\w.-]{1,128}$/.test(id) || id.startsWith('.')) throw new Error(`"${id}" cannot name a control group`)
    return join(root, this.#parent, id)
  }

  /** The group's directory in each hierarchy, once. */
  #directories(id: string): string[] {
    return this.#roots().map((root) => this.#directoryIn(root, id))
  }

  #roots(): string[] {
    return [...new Set([...this.#hierarchies.values()].map(({ root }) => root))]
  }
}

function handDown(directory: string, controller: Controller): void {
  const file = join(directory, 'cgroup.subtree_control')
  if (!read(file).split(' ').includes(controller)) writeFileSync(file, `+${controller}`)
}

/** False when the group is still in use. */
function removed(directory: string): boolean {
  try {
    rmdirSync(directory)
    return true
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return true
    if (codeOf(error) === 'EBUSY' || codeOf(error) === 'ENOTEMPTY') return false
    throw error
  }
}

export interface CgroupOptions {
  /** The operator's id: its groups stand below `atoll/<name>`. */
  readonly name: string
  readonly layout?: CgroupLayout
}

export function openCgroups({ name, layout = readCgroupLayout() }: CgroupOptions): Cgroups {
  if (!/^[\w-]{1,64}$/.test(name)) throw new Error(`"${name}" cannot name a control group`)
  return new KernelCgroups(name, layout)
}
