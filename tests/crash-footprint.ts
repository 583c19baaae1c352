// What an operator has on the machine, to find what it left behind.
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'

const entries = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : [])

/** Marks what an operator makes at its engines. */
function instanceOf(folder: string): string {
  const db = new DatabaseSync(path.join(folder, 'state/atoll.db'), { readOnly: true })
  try {
    return String(db.prepare("select value from settings where name = 'instance_id'").get()?.['value'])
  } finally {
    db.close()
  }
}

function containersOf(instance: string): string[] {
  const asked = spawnSync('/usr/bin/docker', ['ps', '-aq', '--filter', `label=atoll.operator=${instance}`], { encoding: 'utf8' })
  return asked.status === 0 ? asked.stdout.split('\n').filter(Boolean) : []
}

const groupsOf = (instance: string): string[] => [
  ...new Set(globSync(`/sys/fs/cgroup/{,*/}atoll/${instance}/*/`).map((group) => path.basename(group))),
]

/** Processes that are in a control group of the operator, or were told a path of it. The operator itself is not among them. */
function processesOf(folder: string, instance: string): string[] {
  return entries('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      const isInGroup = readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`atoll/${instance}/`)
      return isInGroup || readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder)
    } catch {
      return false // It has ended meanwhile.
    }
  })
}

/**
 * What is there and should not be when there is no sandbox: a launcher and two blank disks may be kept ready.
 * @param folder of a test operator
 */
export function leftOver(folder: string): string[] {
  const instance = instanceOf(folder)
  const mounts = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(folder))
  const loops = spawnSync('losetup', ['-a'], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter((line) => line.includes(folder))
  const groups = groupsOf(instance)
  const blanks = entries(path.join(folder, 'state/blank-disks'))
  const processes = processesOf(folder, instance)
  return [
    ...containersOf(instance).map((id) => `container ${id}`),
    ...entries(path.join(folder, 'run')).map((name) => `channel ${name}`),
    ...entries(path.join(folder, 'state/sandboxes')).map((name) => `folder ${name}`),
    ...mounts.filter((line) => !line.includes('/blank-disks/ready-')).map((line) => `mount ${line}`),
    ...loops.filter((line) => !line.includes('/blank-disks/ready-')).map((line) => `loop device ${line}`),
    ...(blanks.length > 2 ? blanks.map((name) => `blank disk ${name}`) : blanks.filter((name) => !name.startsWith('ready-'))),
    ...(groups.length > 1 ? groups.map((name) => `control group ${name}`) : []),
    ...(processes.length > 2 ? processes.map((pid) => `process ${pid} ${commandOf(pid)}`) : []),
    ...entries(path.join(folder, 'state')).filter((name) => /\.(new|tmp|part)$|~$/.test(name)),
  ]
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').slice(0, 120)
  } catch {
    return ''
  }
}
