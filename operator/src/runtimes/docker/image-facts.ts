// What an image must be asked about once: whether our Node runs on its libraries, and which account files it needs.
// Answers belong to the image's id, which never changes its content, so they are kept on disk.
import { createHash } from 'node:crypto'
import { copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { Failure } from '@atoll/protocol'
import { sandboxUser } from '@atoll/protocol/sidecar'
import { z } from 'zod'
import { tarEntries } from './archive.ts'
import { accepting, asReadable, type CallOptions, type Engine } from './engine.ts'

const Facts = z.object({
  /** Whether the image brings a home of its own. */
  hasHome: z.boolean(),
  /** Host file to bind, by its place in the sandbox. */
  files: z.record(z.string(), z.string()),
})
export type ImageFacts = z.infer<typeof Facts>

/** Raised when the questions change, so that answers to the older ones are asked for again. */
const generation = 1

const loaders: Readonly<Record<string, string>> = { x64: '/lib64/ld-linux-x86-64.so.2', arm64: '/lib/ld-linux-aarch64.so.1' }
const libraryTriples: Readonly<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }
/** What our Node needs beside glibc. Images without a compiler's run-time get the host's. */
const libraries = ['libstdc++.so.6', 'libgcc_s.so.1']
const probeLabel = 'atoll.probe'

/** Marks a container that only looks at something, and never is a sandbox. */
export const probeLabels = (operatorId: string): Record<string, string> => ({ [probeLabel]: operatorId })

/** A container that is made from the image, looked into, never started and removed. */
export async function withBareContainer<T>(
  engine: Engine,
  imageId: string,
  operatorId: string,
  look: (container: string) => Promise<T>,
): Promise<T> {
  // Images without a default command need one; this one never runs.
  const spec = { Image: imageId, Entrypoint: ['none'], Labels: probeLabels(operatorId), HostConfig: { NetworkMode: 'none' } }
  const { id } = await engine.call((docker) => docker.createContainer(spec))
  try {
    return await look(id)
  } finally {
    await accepting(
      [404],
      engine.call((docker) => docker.getContainer(id).remove({ force: true, v: true })),
    )
  }
}

/** Removes bare containers that an operator left when it was killed in the middle. */
export async function sweepBareContainers(engine: Engine, operatorId: string, options: CallOptions): Promise<void> {
  const filters = { label: [`${probeLabel}=${operatorId}`], status: ['created', 'exited', 'dead'] }
  const left = await engine.call((docker) => docker.listContainers({ all: true, filters }), options)
  const isOld = (createdSeconds: number): boolean => Date.now() / 1000 - createdSeconds > 300
  for (const { Id } of left.filter(({ Created }) => isOld(Created))) {
    await accepting(
      [404, 409],
      engine.call((docker) => docker.getContainer(Id).remove({ force: true, v: true }), options),
    )
  }
}

/** An entry as the engine's archive gives it, or undefined when the image has none there. */
async function archived(engine: Engine, container: string, path: string): Promise<Readable | undefined> {
  const stream = await accepting(
    [404],
    engine.call((docker) => docker.getContainer(container).getArchive({ path })),
  )
  return stream && asReadable(stream)
}

async function exists(engine: Engine, container: string, path: string): Promise<boolean> {
  const answer = await accepting(
    [404],
    engine.call((docker) => docker.getContainer(container).infoArchive({ path })),
  )
  return answer !== undefined
}

async function fileText(engine: Engine, container: string, path: string): Promise<string | undefined> {
  const stream = await archived(engine, container, path)
  if (!stream) return undefined
  for await (const { isFile, content } of tarEntries(stream)) if (isFile) return content.toString('utf8')
  return undefined
}

async function firstExisting(engine: Engine, container: string, paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) if (await exists(engine, container, path)) return path
  return undefined
}

/** Adds the sandbox user to an account file; undefined when it is there already. */
export function withUser(accounts: string | undefined, shell: string): string | undefined {
  const { name, uid, gid, home } = sandboxUser
  const lines = (accounts ?? 'root:x:0:0:root:/root:/bin/sh\n').split('\n').filter((line) => line !== '')
  if (lines.find((line) => line.split(':')[2] === String(uid))?.startsWith(`${name}:`)) return undefined
  const others = lines.filter((line) => !line.startsWith(`${name}:`))
  const [first = '', ...rest] = others
  // Before any other account of the same number, because the first one names it.
  return `${[first, `${name}:x:${uid}:${gid}::${home}:${shell}`, ...rest].join('\n')}\n`
}

export function withGroup(groups: string | undefined): string | undefined {
  const { name, gid } = sandboxUser
  const lines = (groups ?? 'root:x:0:\n').split('\n').filter((line) => line !== '')
  if (lines.find((line) => line.split(':')[2] === String(gid))?.startsWith(`${name}:`)) return undefined
  const [first = '', ...rest] = lines.filter((line) => !line.startsWith(`${name}:`))
  return `${[first, `${name}:x:${gid}:`, ...rest].join('\n')}\n`
}

/** Where this process got its own libraries from: the operator runs the same Node as the sidecar. */
async function ownLibraries(): Promise<Map<string, string>> {
  const maps = await readFile('/proc/self/maps', 'utf8')
  const paths = [...maps.matchAll(/ (\/\S+)$/gm)].map(([, path = '']) => path)
  return new Map(libraries.flatMap((name) => paths.filter((path) => path.includes(`/${name}`)).map((path) => [name, path] as const)))
}

export class ImageLibrary {
  readonly #engine: Engine
  readonly #folder: string
  readonly #operatorId: string
  readonly #known = new Map<string, Promise<ImageFacts>>()

  constructor(engine: Engine, stateDir: string, operatorId: string) {
    this.#engine = engine
    this.#folder = join(stateDir, 'images')
    this.#operatorId = operatorId
  }

  /** @throws Failure `image.unsupported` */
  facts(imageId: string, name: string): Promise<ImageFacts> {
    let facts = this.#known.get(imageId)
    if (!facts) {
      facts = this.#find(imageId, name)
      this.#known.set(imageId, facts)
      // Only answers are kept: an image may be asked about again after a failure.
      facts.catch(() => this.#known.delete(imageId))
    }
    return facts
  }

  async #find(imageId: string, name: string): Promise<ImageFacts> {
    const folder = join(this.#folder, createHash('sha256').update(`${generation} ${imageId}`).digest('hex').slice(0, 32))
    const kept = await readFile(join(folder, 'facts.json'), 'utf8').catch(() => undefined)
    if (kept !== undefined) return Facts.parse(JSON.parse(kept))
    return withBareContainer(this.#engine, imageId, this.#operatorId, async (container) => {
      const libraryDir = await this.#assertGlibc(container, name)
      return this.#keep(container, libraryDir, folder)
    })
  }

  async #assertGlibc(container: string, name: string): Promise<string> {
    const loader = loaders[process.arch] ?? ''
    const triple = libraryTriples[process.arch] ?? ''
    const places = [`/lib/${triple}`, `/usr/lib/${triple}`, '/lib64', '/usr/lib64', '/lib', '/usr/lib']
    const libc = (await exists(this.#engine, container, loader))
      ? await firstExisting(
          this.#engine,
          container,
          places.map((place) => `${place}/libc.so.6`),
        )
      : undefined
    if (libc) return libc.slice(0, libc.lastIndexOf('/'))
    const musl = await exists(this.#engine, container, `/lib/ld-musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`)
    const why = musl ? 'is built on musl (as Alpine is)' : 'has no glibc'
    throw new Failure('image.unsupported', `The image ${name} ${why}. Use one with glibc, such as Debian, Ubuntu or Fedora.`)
  }

  /** Writes the answers down, complete or not at all. */
  async #keep(container: string, libraryDir: string, folder: string): Promise<ImageFacts> {
    const draft = `${folder}.draft-${process.pid}`
    await rm(draft, { recursive: true, force: true })
    await mkdir(draft, { recursive: true, mode: 0o755 })
    const files: Record<string, string> = {}
    const shell = (await exists(this.#engine, container, '/bin/bash')) ? '/bin/bash' : '/bin/sh'
    const accounts = {
      passwd: withUser(await fileText(this.#engine, container, '/etc/passwd'), shell),
      group: withGroup(await fileText(this.#engine, container, '/etc/group')),
    }
    for (const [name, text] of Object.entries(accounts)) {
      if (text === undefined) continue
      await writeFile(join(draft, name), text, { mode: 0o644 })
      files[`/etc/${name}`] = join(folder, name)
    }
    for (const [name, source] of await ownLibraries()) {
      if (await exists(this.#engine, container, `${libraryDir}/${name}`)) continue
      await copyFile(source, join(draft, name))
      files[`${libraryDir}/${name}`] = join(folder, name)
    }
    const facts: ImageFacts = { hasHome: await this.#hasHome(container), files }
    await writeFile(join(draft, 'facts.json'), JSON.stringify(facts))
    await rm(folder, { recursive: true, force: true })
    await rename(draft, folder)
    return facts
  }

  async #hasHome(container: string): Promise<boolean> {
    const stream = await archived(this.#engine, container, sandboxUser.home)
    if (!stream) return false
    let entries = 0
    for await (const _ of tarEntries(stream)) {
      entries++
      if (entries > 1) return true
    }
    return false
  }
}
