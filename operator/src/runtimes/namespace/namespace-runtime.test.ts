import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { bundle } from '../../../../sidecar/scripts/bundle.ts'
import { openHttpGuest } from '../../guest-channel/http-guest.ts'
import { openCgroups } from '../../host/cgroup.ts'
import { readCgroupLayout } from '../../host/cgroup-layout.ts'
import { mountsBelow, unmountBelow } from '../../host/mounts.ts'
import { keepSidecarProgram } from '../../host/sidecar-program.ts'
import { openWorkspaceDisks } from '../../host/workspace-disk.ts'
import { type Opened, runtimeContract } from '../../sandboxes/runtime.contract.ts'
import type { Runtime } from '../../sandboxes/runtime.ts'
import { createNamespaceRuntime } from './namespace-runtime.ts'

/** Processes of the host whose root or control group shows that they are a sandbox's. */
function processesOf(id: string, operatorId: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`/atoll/${operatorId}/${id}\n`)
      } catch {
        return false // It has ended.
      }
    })
    .map((pid) => `process ${pid}`)
}

async function open(): Promise<Opened> {
  const base = mkdtempSync(join(tmpdir(), 'atoll-ns-'))
  chmodSync(base, 0o711)
  const stateDir = join(base, 'state')
  const runDir = join(base, 'run')
  const operatorId = `test-${randomBytes(4).toString('hex')}`
  const programDir = await keepSidecarProgram(await bundle(), stateDir)
  const disks = await openWorkspaceDisks({ stateDir, readySizeGb: 1 })
  const cgroups = openCgroups({ name: operatorId })
  const log = pino({ level: 'silent' })
  const create = (): Runtime => createNamespaceRuntime({ programDir, runDir, stateDir, operatorId, disks, cgroups, log })
  const roots = [...readCgroupLayout().v1.values()]
  return {
    runtime: create(),
    openGuest: openHttpGuest,
    images: { default: '', missing: 'no-such-image' },
    reopen: () => Promise.resolve(create()),
    leftovers: async (id) => [
      ...[join(stateDir, 'sandboxes', id), join(runDir, id)].filter((path) => existsSync(path)),
      ...(await mountsBelow(join(stateDir, 'sandboxes', id))),
      ...roots.map((root) => join(root, 'atoll', operatorId, id)).filter((path) => existsSync(path)),
      ...processesOf(id, operatorId),
    ],
    close: async () => {
      await disks.close()
      cgroups.close()
      await unmountBelow(base)
      rmSync(base, { recursive: true, force: true })
    },
  }
}

runtimeContract('namespace', open)
