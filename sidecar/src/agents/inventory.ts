// Which harnesses this sandbox has, and which of them can reach a model.
import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { Failure, type SandboxHarness } from '@atoll/protocol'
import { errnoOf } from '../files/file-failure.ts'
import { describe, type Log } from '../log.ts'
import { type AgentEnvironmentParts, agentEnvironment } from './agent-environment.ts'
import type { Harness } from './harness.ts'
import type { Registry } from './registry.ts'

/** What an image says of one of its harnesses, as far as it is read here. */
interface ImageHarness {
  readonly id: string
  readonly version?: string
  readonly mcp?: boolean
  readonly skills?: boolean
  readonly subagents?: boolean
}

export interface InventoryParts extends AgentEnvironmentParts {
  readonly registry: Registry
  /** Whether a file of the user's home is there. */
  readonly hasFile: (pathInHome: string) => Promise<boolean>
  readonly log: Log
}

export interface Found {
  readonly harness: Harness
  readonly version: string | undefined
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch {
    return false
  }
}

const isOnPath = (program: string, variables: Readonly<Record<string, string>>): boolean =>
  program.includes('/') ? isProgram(program) : (variables.PATH ?? '').split(':').some((folder) => isProgram(path.join(folder, program)))

const namesToSet = ({ credentialEnv }: Harness): string => credentialEnv.filter((name) => !/_(BASE_)?URL$/.test(name)).join(' or ')

export class Inventory {
  readonly #parts: InventoryParts

  constructor(parts: InventoryParts) {
    this.#parts = parts
  }

  #ofImage(): readonly ImageHarness[] {
    const { harnessManifest, harnessPrograms } = this.#parts.config
    // Lent harnesses have theirs beside them.
    return this.#manifest(harnessManifest) ?? this.#manifest(path.join(path.dirname(harnessPrograms), 'harnesses.json')) ?? []
  }

  #manifest(file: string): readonly ImageHarness[] | undefined {
    try {
      const { harnesses }: { harnesses: ImageHarness[] } = JSON.parse(readFileSync(file, 'utf8'))
      return harnesses
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') this.#parts.log('warn', `${file} cannot be read`, describe(error))
      return undefined
    }
  }

  #variables(harness: Harness, requested: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
    return agentEnvironment(this.#parts, { cwd: this.#parts.config.workspace, names: harness.credentialEnv, requested }).variables
  }

  #isPresent(harness: Harness): boolean {
    return harness.command === undefined || isOnPath(harness.command, this.#variables(harness))
  }

  /** Those that are here, in the order of the image. */
  #present(): readonly Harness[] {
    const order = this.#ofImage().map(({ id }) => id)
    const rank = ({ id }: Harness): number => (order.includes(id) ? order.indexOf(id) : order.length)
    return this.#parts.registry.all.filter((harness) => this.#isPresent(harness)).sort((a, b) => rank(a) - rank(b))
  }

  /** A harness asks for files of the home while it decides; each is looked at by the user, and the harness asked again. */
  async #hasCredentials(harness: Harness, requested?: Readonly<Record<string, string>>): Promise<boolean> {
    const variables = this.#variables(harness, requested)
    const known = new Map<string, boolean>()
    for (;;) {
      const unknown = new Set<string>()
      const answer = harness.hasCredentials(variables, (file) => {
        if (!known.has(file)) unknown.add(file)
        return known.get(file) ?? false
      })
      if (unknown.size === 0) return answer
      for (const file of unknown) known.set(file, await this.#parts.hasFile(file))
    }
  }

  #versionOf(harness: Harness): string | undefined {
    return this.#ofImage().find(({ id }) => id === harness.id)?.version
  }

  async list(): Promise<readonly SandboxHarness[]> {
    const image = this.#ofImage()
    const present = this.#present()
    const ready = await Promise.all(present.map((harness) => this.#hasCredentials(harness)))
    const first = present.findIndex((harness, index) => harness.command !== undefined && ready[index])
    return present.map((harness, index) => {
      const said = image.find(({ id }) => id === harness.id)
      return {
        id: harness.id,
        label: harness.label,
        version: said?.version ?? null,
        mcp: said?.mcp ?? harness.mcp,
        skills: said?.skills ?? harness.skills,
        subagents: said?.subagents ?? harness.subagents,
        credentials_available: ready[index] ?? false,
        is_default: index === first,
      }
    })
  }

  /**
   * The harness of that id, or the default one. A harness that needs no program is never the default, because it has no model.
   * @throws Failure `agent.harness_unknown`, `agent.harness_missing`, `agent.no_credentials`
   */
  async choose(id: string, requested: Readonly<Record<string, string>>): Promise<Found> {
    const harness = id === '' ? await this.#default(requested) : await this.#named(id, requested)
    return { harness, version: this.#versionOf(harness) }
  }

  async #named(id: string, requested: Readonly<Record<string, string>>): Promise<Harness> {
    const harness = this.#parts.registry.find(id)
    if (!harness) {
      const ids = this.#parts.registry.all.map((one) => one.id).join(', ')
      throw new Failure('agent.harness_unknown', `No harness is called ${id}. There are ${ids}, and acp:<command>.`)
    }
    if (!this.#isPresent(harness)) {
      const here = this.#present().map((one) => one.id)
      throw new Failure('agent.harness_missing', `The image of this sandbox has no ${harness.label}. It has ${here.join(', ')}.`)
    }
    if (await this.#hasCredentials(harness, requested)) return harness
    throw new Failure('agent.no_credentials', `${harness.label} has no credential for a model. Set ${namesToSet(harness)}.`)
  }

  async #default(requested: Readonly<Record<string, string>>): Promise<Harness> {
    const present = this.#present().filter(({ command }) => command !== undefined)
    for (const harness of present) if (await this.#hasCredentials(harness, requested)) return harness
    if (present.length === 0) {
      throw new Failure('agent.no_credentials', 'The image of this sandbox has no harness that reaches a model. Use an image that has one.')
    }
    const needs = present.map((harness) => `${namesToSet(harness)} for ${harness.label}`).join(', ')
    throw new Failure('agent.no_credentials', `No harness of this sandbox has a credential for a model. Set ${needs}.`)
  }
}
