// A namespace runtime with state folders of its own, for the tests that run it for real.
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pino } from 'pino'
import { bundle } from '../../../../../sidecar/scripts/bundle.ts'
import { openCgroups } from '../../../host/cgroup.ts'
import { readCgroupLayout } from '../../../host/cgroup-layout.ts'
import { mountsBelow, unmountBelow } from '../../../host/mounts.ts'
import { keepSidecarProgram } from '../../../host/sidecar-program.ts'
import { openWorkspaceDisks } from '../../../host/workspace-disk.ts'
import type { Runtime } from '../../../sandboxes/runtime.ts'
import { createNamespaceRuntime } from '../namespace-runtime.ts'
import { SandboxFolders } from '../sandbox-folder.ts'
import { defaultRangesDir, groupOf } from '../uid-ranges.ts'

export interface TestMachine {
  readonly stateDir: string
  readonly runDir: string
  readonly programDir: string
  /** A runtime object over the state; any number may be made. */
  readonly create: () => Runtime
  readonly leftovers: (id: string) => Promise<string[]>
  readonly close: () => Promise<void>
}

/** Processes of the host that are in one of these control groups. */
function processesIn(groups: readonly string[]): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
        return groups.some((group) => line.includes(`${group}\n`))
      } catch {
        return false // It has ended.
      }
    })
    .map((pid) => `process ${pid}`)
}

/** `parent` is where its folders stand. */
export async function openTestMachine(parent: string = tmpdir()): Promise<TestMachine> {
  const base = mkdtempSync(join(parent, 'atoll-ns-'))
  chmodSync(base, 0o711)
  const stateDir = join(base, 'state')
  const runDir = join(base, 'run')
  const operatorId = `test-${randomBytes(4).toString('hex')}`
  const programDir = await keepSidecarProgram(await bundle(), stateDir)
  const disks = await openWorkspaceDisks({ stateDir, readySizeGb: 1 })
  const cgroups = openCgroups({ name: operatorId })
  const log = pino({ level: 'silent' })
  const { v1, v2 } = readCgroupLayout()
  const roots = [...v1.values(), ...(v2 ? [v2.root] : [])]
  const folders = new SandboxFolders(stateDir, runDir)
  /** Of the sandbox; once its record is gone, all that nobody has a range for. */
  const groupsOf = (id: string): { name: string; path: string }[] => {
    const record = folders.read(id)
    const taken = new Set(readdirSync(defaultRangesDir).map((base) => groupOf(Number(base))))
    const groups = record ? [groupOf(record.base)] : cgroups.ids().filter((group) => !taken.has(group))
    return groups.flatMap((group) =>
      roots.map((root) => ({ name: join('/atoll', operatorId, group), path: join(root, 'atoll', operatorId, group) })),
    )
  }
  return {
    stateDir,
    runDir,
    programDir,
    create: () => createNamespaceRuntime({ programDir, runDir, stateDir, operatorId, disks, cgroups, log }),
    leftovers: async (id) => [
      ...[join(stateDir, 'sandboxes', id), join(runDir, id)].filter((path) => existsSync(path)),
      ...(await mountsBelow(join(stateDir, 'sandboxes', id))),
      ...groupsOf(id)
        .filter((group) => existsSync(group.path))
        .map((group) => group.path),
      ...processesIn(groupsOf(id).map((group) => group.name)),
    ],
    close: async () => {
      await disks.close()
      cgroups.close()
      await unmountBelow(base)
      rmSync(base, { recursive: true, force: true })
    },
  }
}

/** An image with glibc, Node's libraries and nothing else: no shell. */
export function addBareImage({ stateDir, programDir }: TestMachine, name: string): string {
  const root = join(stateDir, 'rootfs', name)
  const listed = execFileSync('ldd', [join(programDir, 'node')], { encoding: 'utf8' })
  for (const path of listed.match(/\/\S+\.so\S*/g) ?? []) {
    mkdirSync(join(root, dirname(path)), { recursive: true })
    copyFileSync(path, join(root, path))
  }
  mkdirSync(join(root, 'etc/own'), { recursive: true })
  writeFileSync(
    join(root, 'etc/passwd'),
    'root:x:0:0::/root:/bin/sh\nsomebody:x:1000:1000::/home/somebody:/bin/sh\nother:x:7:7::/:/bin/sh\n',
  )
  writeFileSync(join(root, 'etc/shadow'), 'root:hash:1::::::\n')
  writeFileSync(join(root, 'etc/own/setting'), 'of the image\n')
  return name
}

/** An image of another libc. */
export function addMuslImage({ stateDir }: TestMachine, name: string): string {
  const root = join(stateDir, 'rootfs', name)
  mkdirSync(join(root, 'lib'), { recursive: true })
  writeFileSync(join(root, 'lib/ld-musl-x86_64.so.1'), '')
  return name
}
