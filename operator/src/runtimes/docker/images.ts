// From an image's name to something that is known to run here.
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Failure } from '@atoll/protocol'
import { sandboxUser, sidecarPaths } from '@atoll/protocol/sidecar'
import { z } from 'zod'
import type { ImageClaim, StartContext } from '../../sandboxes/runtime.ts'
import { accepting, asReadable, type Engine, refusalStatus, refusalText } from './engine.ts'
import { isThere } from './folders.ts'
import type { ImageFacts, ImageLibrary } from './image-facts.ts'
import { type ImageReference, isAllowed, parseReference } from './reference.ts'

export interface ResolvedImage {
  readonly id: string
  readonly name: string
  /** Names of the variables that the image sets. */
  readonly variables: readonly string[]
  /** Directories for which the engine would make volumes without a size. */
  readonly volumes: readonly string[]
  readonly facts: ImageFacts
}

export interface ImagesOptions {
  readonly engine: Engine
  readonly library: ImageLibrary
  readonly stateDir: string
  readonly defaultImage: string
  readonly allowedImages?: readonly string[]
  readonly pullImages: boolean
}

/** With the names of the harnesses in the image; the second one is the reference's. */
const harnessLabels = ['atoll.harnesses', 'org.tangle.sidecar.harnesses'] as const

/** Where every sandbox has something of its own, whatever the image says. */
const ownPlaces = new Set<string>([
  sandboxUser.home,
  '/tmp',
  sidecarPaths.program,
  sidecarPaths.channel,
  sidecarPaths.state,
  sidecarPaths.secrets,
])

/** Where the sidecar looks for the image's variables. */
const variablesPlace = `${sidecarPaths.state}/image-env.json`

const variablesOf = (entries: readonly string[]): Record<string, string> =>
  Object.fromEntries(entries.map((entry) => [entry.split('=', 1)[0] ?? '', entry.slice(entry.indexOf('=') + 1)]).filter(([name]) => name))

const pullDeadlineMs = 15 * 60_000
const architectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }

const Line = z.object({
  id: z.string().optional(),
  status: z.string().optional(),
  error: z.string().optional(),
  progressDetail: z.object({ current: z.number().optional(), total: z.number().optional() }).optional(),
})

interface Pull {
  readonly done: Promise<void>
  readonly abort: AbortController
  readonly listeners: Set<(message: string) => void>
}

export class Images {
  readonly #options: ImagesOptions
  readonly #pulls = new Map<string, Pull>()

  constructor(options: ImagesOptions) {
    this.#options = options
  }

  /**
   * The image of a plan; an empty name means the default.
   * @throws Failure `image.not_found`, `image.not_allowed`, `image.unsupported`, `runtime.unavailable`
   */
  async resolve(text: string, context: StartContext): Promise<ResolvedImage> {
    const asked = text.trim() || this.#options.defaultImage
    const reference = parseReference(asked)
    this.#assertAllowed(reference, asked)
    const found = (await this.#inspect(reference)) ?? (await this.#fetch(reference, asked, context))
    if (found.Os !== 'linux' || found.Architecture !== architectures[process.arch]) {
      const made = `${found.Os}/${found.Architecture}`
      throw new Failure('image.unsupported', `The image ${asked} is for ${made}; this machine runs linux/${architectures[process.arch]}.`)
    }
    const { hasHome, files } = await this.#options.library.facts(found.Id, asked)
    const config = found.Config ?? {}
    const variables = variablesOf(config.Env ?? [])
    return {
      id: found.Id,
      name: asked,
      variables: Object.keys(variables),
      volumes: Object.keys(config.Volumes ?? {}).filter((place) => !ownPlaces.has(place.replace(/(?<=.)\/+$/, ''))),
      facts: { hasHome, files: { ...files, [variablesPlace]: await this.#variablesFile(variables) } },
    }
  }

  /** Before the engine is asked anything: whether this machine has an image is nobody's business either. */
  #assertAllowed({ name }: ImageReference, asked: string): void {
    const { allowedImages = [], defaultImage } = this.#options
    if (allowedImages.length === 0 || asked === defaultImage || isAllowed(name, allowedImages)) return
    throw new Failure(
      'image.not_allowed',
      `This operator does not run the image ${asked}. It runs: ${[defaultImage, ...allowedImages].join(', ')}.`,
    )
  }

  /** What an image is, when it is on this machine. @throws Failure `runtime.unavailable`, `image.not_found` for what is no name */
  async claim(text: string): Promise<ImageClaim | undefined> {
    const found = await this.#inspect(parseReference(text.trim() || this.#options.defaultImage))
    return found && { id: found.Id, claimsHarnesses: harnessLabels.some((label) => found.Config?.Labels?.[label]?.trim()) }
  }

  /** The host file with the variables that the image sets for its processes. It never changes, and images may share it. */
  async #variablesFile(variables: Readonly<Record<string, string>>): Promise<string> {
    const text = JSON.stringify(variables)
    const folder = join(this.#options.stateDir, 'images')
    const file = join(folder, `env-${createHash('sha256').update(text).digest('hex').slice(0, 32)}.json`)
    const draft = `${file}.draft-${process.pid}-${randomUUID()}`
    if (await isThere(file)) return file
    await mkdir(folder, { recursive: true, mode: 0o755 })
    await writeFile(draft, text, { mode: 0o644 })
    await rename(draft, file)
    return file
  }

  #inspect({ name }: ImageReference) {
    return accepting(
      [404],
      this.#options.engine.call((docker) => docker.getImage(name).inspect()),
    )
  }

  async #fetch(reference: ImageReference, asked: string, context: StartContext) {
    if (!reference.canBePulled || !this.#options.pullImages) throw this.#missing(asked, 'fetching images is switched off')
    context.progress('image_pull', `fetching ${reference.name}`)
    await this.#pull(reference.name, asked, context)
    const found = await this.#inspect(reference)
    if (!found) throw this.#missing(asked, 'it was gone again after it was fetched')
    return found
  }

  #missing(asked: string, why: string): Failure {
    const advice =
      asked === this.#options.defaultImage
        ? 'It is the operator’s default: npm start makes it, or name another with SIDECAR_IMAGE.'
        : 'Check its name, or put it on this machine with docker pull, docker load or docker build.'
    return new Failure('image.not_found', `The image ${asked} is not on this machine (${why}). ${advice}`)
  }

  /** Everybody who waits for the same image shares one pull, which ends when the last of them gives up. */
  async #pull(name: string, asked: string, context: StartContext): Promise<void> {
    const pull = this.#pulls.get(name) ?? this.#startPull(name, asked)
    const listener = (message: string): void => context.progress('image_pull', message)
    pull.listeners.add(listener)
    let giveUp: () => void = () => undefined
    const given = new Promise<never>((_, reject) => {
      giveUp = () => reject(context.signal.reason)
      context.signal.addEventListener('abort', giveUp, { once: true })
    })
    try {
      await Promise.race([pull.done, given])
    } finally {
      context.signal.removeEventListener('abort', giveUp)
      pull.listeners.delete(listener)
      if (pull.listeners.size === 0) pull.abort.abort(new Error('nobody waits for the image any more'))
    }
  }

  #startPull(name: string, asked: string): Pull {
    const abort = new AbortController()
    const listeners = new Set<(message: string) => void>()
    const tell = (message: string): void => {
      for (const listener of listeners) listener(message)
    }
    const done = this.#readPull(name, asked, abort.signal, tell).finally(() => this.#pulls.delete(name))
    done.catch(() => undefined) // Those who wait hear of it themselves.
    const pull = { done, abort, listeners }
    this.#pulls.set(name, pull)
    return pull
  }

  async #readPull(name: string, asked: string, signal: AbortSignal, tell: (message: string) => void): Promise<void> {
    try {
      await this.#options.engine.call(
        async (docker, abortSignal) => {
          const stream = asReadable(await docker.pull(name, { abortSignal }))
          abortSignal.addEventListener('abort', () => stream.destroy(), { once: true })
          for await (const text of createInterface({ input: stream })) this.#readLine(text, asked, tell)
        },
        { signal, deadlineMs: pullDeadlineMs },
      )
    } catch (error) {
      if (refusalStatus(error) === undefined) throw error
      throw this.#missing(asked, refusalText(error))
    }
  }

  #readLine(text: string, asked: string, tell: (message: string) => void): void {
    const line = Line.safeParse(JSON.parse(text)).data
    if (line?.error) throw this.#missing(asked, line.error)
    const { current, total } = line?.progressDetail ?? {}
    if (line?.status && current && total) tell(`${line.status} ${line.id ?? ''} ${Math.floor((100 * current) / total)} %`)
  }

  /** Ends what is being fetched. */
  close(): void {
    for (const { abort } of this.#pulls.values()) abort.abort(new Error('the operator is stopping'))
  }
}
