// What tests of the docker runtime share: a runtime over folders of its own, and images made for the occasion.
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import Docker from 'dockerode'
import pino from 'pino'
import { bundle } from '../../../../../sidecar/scripts/bundle.ts'
import { openHttpGuest } from '../../../guest-channel/http-guest.ts'
import { installProgram } from '../../../host/sidecar-program.ts'
import { openWorkspaceDisks } from '../../../host/workspace-disk.ts'
import type { Opened } from '../../../sandboxes/runtime.contract.ts'
import type { Runtime } from '../../../sandboxes/runtime.ts'
import { createDockerRuntime, type DockerRuntimeOptions } from '../docker-runtime.ts'
import { accepting, asReadable } from '../engine.ts'

export const engineSocket = '/var/run/docker.sock'
export const baseImage = 'atoll/base:bookworm'
/** The engine as somebody beside the operator sees it. */
export const engine = new Docker({ socketPath: engineSocket, host: '' })

const log = pino({ level: 'silent' })

/** A runtime with its own operator id and folders, all of which `close` takes away. */
export interface TestMachine {
  readonly options: DockerRuntimeOptions
  readonly open: (change?: Partial<DockerRuntimeOptions>) => Runtime
  readonly leftovers: (id: string) => Promise<string[]>
  readonly importImage: (name: string, tar: Buffer, changes?: readonly string[]) => Promise<string>
  readonly deriveImage: (name: string, tar: Buffer | undefined, changes?: readonly string[]) => Promise<string>
  /** Takes an image away in the end that a test fetched. */
  readonly owns: (reference: string) => void
  readonly close: () => Promise<void>
}

export async function openMachine(): Promise<TestMachine> {
  const mark = randomBytes(4).toString('hex')
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'atoll-docker-')))
  const stateDir = join(root, 'state')
  const runDir = join(root, 'run')
  const operatorId = `test-${mark}`
  const disks = await openWorkspaceDisks({ stateDir, log, readySizeGb: 1 })
  const options: DockerRuntimeOptions = {
    engineSocket: `unix://${engineSocket}`,
    programDir: await installProgram(await bundle(), join(stateDir, 'sidecar')),
    runDir,
    stateDir,
    operatorId,
    disks,
    defaultImage: baseImage,
    pullImages: false,
    log,
  }
  const images: string[] = []
  return {
    options,
    open: (change) => createDockerRuntime({ ...options, ...change }),
    leftovers: (id) => leftovers(id, options),
    importImage: async (name, tar, changes = []) => {
      const reference = `atoll-test/${name}:${mark}`
      await importImage(reference, tar, changes)
      images.push(reference)
      return reference
    },
    deriveImage: async (name, tar, changes = []) => {
      const reference = `atoll-test/${name}:${mark}`
      await deriveImage(reference, tar, changes)
      images.push(reference)
      return reference
    },
    owns: (reference) => images.push(reference),
    close: async () => {
      await removeContainers(operatorId)
      for (const image of images) await accepting([404], engine.getImage(image).remove({ force: true }))
      await disks.close()
      rmSync(root, { recursive: true, force: true })
    },
  }
}

async function removeContainers(operatorId: string): Promise<void> {
  for (const label of [`atoll.operator=${operatorId}`, `atoll.probe=${operatorId}`]) {
    const left = await engine.listContainers({ all: true, filters: { label: [label] } })
    for (const { Id } of left) await engine.getContainer(Id).remove({ force: true, v: true })
  }
}

async function leftovers(id: string, { stateDir, runDir, operatorId }: DockerRuntimeOptions): Promise<string[]> {
  const bare = await engine.listContainers({ all: true, filters: { label: [`atoll.probe=${operatorId}`] } })
  const containers = await engine.listContainers({ all: true, filters: { label: [`atoll.sandbox=${id}`] } })
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  return [
    ...containers.filter(({ State }) => State === 'running').map(({ Id }) => `process of container ${Id}`),
    ...[...containers, ...bare].map(({ Id }) => `container ${Id}`),
    ...[join(stateDir, 'sandboxes', id), join(runDir, id)].filter((folder) => existsSync(folder)),
    ...mounts.filter((line) => line.includes(`/sandboxes/${id}/`)).map((line) => `mount ${line}`),
  ]
}

/** A root file system as a tar archive. */
export function archiveOf(fill: (root: string) => void): Buffer {
  const root = mkdtempSync(join(tmpdir(), 'atoll-image-'))
  try {
    fill(root)
    return execFileSync('tar', ['-C', root, '-c', '.'], { maxBuffer: 512 * 1024 * 1024 })
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

async function importImage(reference: string, tar: Buffer, changes: readonly string[]): Promise<void> {
  const [repo, tag] = reference.split(':')
  const answer = await text(asReadable(await engine.importImage(Readable.from([tar]), { repo, tag, changes })))
  if (answer.includes('"error"')) throw new Error(answer)
}

/** The base image with more files or other settings. */
async function deriveImage(reference: string, tar: Buffer | undefined, changes: readonly string[]): Promise<void> {
  const container = await engine.createContainer({ Image: baseImage, Cmd: ['none'] })
  try {
    if (tar) await container.putArchive(tar, { path: '/' })
    const [repo, tag] = reference.split(':')
    await container.commit({ repo, tag, ...(changes.length > 0 && { changes: changes.join('\n') }) })
  } finally {
    await container.remove({ force: true })
  }
}

/** glibc of this machine and nothing else: no shell, no accounts, no C++ library. */
export function fillWithGlibc(root: string): void {
  const names = ['libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0', 'librt.so.1']
  const [folder, loader] =
    process.arch === 'arm64'
      ? ['/lib/aarch64-linux-gnu', '/lib/ld-linux-aarch64.so.1']
      : ['/lib/x86_64-linux-gnu', '/lib64/ld-linux-x86-64.so.2']
  for (const file of [...names.map((name) => join(folder, name)), loader]) {
    mkdirSync(dirname(join(root, file)), { recursive: true })
    cpSync(realpathSync(file), join(root, file))
  }
}

/** What an Alpine image looks like to somebody who may not run it. */
export function fillWithMusl(root: string): void {
  mkdirSync(join(root, 'lib'))
  mkdirSync(join(root, 'bin'))
  const loader = process.arch === 'arm64' ? 'ld-musl-aarch64.so.1' : 'ld-musl-x86_64.so.1'
  for (const file of [`lib/${loader}`, 'bin/busybox']) writeFileSync(join(root, file), 'not really', { mode: 0o755 })
}

export async function openForContract(): Promise<Opened> {
  const machine = await openMachine()
  try {
    return await openedFor(machine)
  } catch (error) {
    await machine.close()
    throw error
  }
}

async function openedFor(machine: TestMachine): Promise<Opened> {
  return {
    runtime: machine.open(),
    openGuest: openHttpGuest,
    images: {
      default: '',
      missing: 'atoll-test/nowhere:1',
      notLinuxOrMusl: await machine.importImage('musl', archiveOf(fillWithMusl)),
      noShell: await machine.importImage('no-shell', archiveOf(fillWithGlibc)),
    },
    reopen: () => Promise.resolve(machine.open()),
    leftovers: machine.leftovers,
    close: machine.close,
  }
}
