// Agents, whose code is read when something is wanted of them: most sandboxes start without, and need not wait for it.
import { describe } from '../log.ts'
import type { Agents, AgentsParts } from './agents.ts'
import type { Run } from './session.ts'

type Parts = Omit<AgentsParts, 'registry' | 'left'>

export class LazyAgents {
  readonly #parts: Parts
  /** Runs that an earlier sidecar left in the middle. */
  readonly #left: readonly Run[]
  #agents: Promise<Agents> | undefined
  #isConfigured = false

  /** @throws as the records do when they are loaded */
  constructor(parts: Parts) {
    this.#parts = parts
    this.#left = parts.records.load()
    if (this.#left.length > 0)
      this.get().catch((error: unknown) => parts.log('error', 'the code of agents cannot be read', describe(error)))
  }

  get(): Promise<Agents> {
    this.#agents ??= this.#load()
    return this.#agents
  }

  async #load(): Promise<Agents> {
    const { createAgents } = await import('./agents-with-harnesses.ts')
    const agents = createAgents({ ...this.#parts, left: this.#left })
    if (this.#isConfigured) agents.configured()
    return agents
  }

  /** The environment of the sandbox is there. */
  async configured(): Promise<void> {
    this.#isConfigured = true
    if (this.#agents !== undefined || this.#parts.records.openCount > 0) (await this.get()).configured()
  }

  /** Ends every run that is under way. What waits is taken up when the sandbox runs again. */
  async close(): Promise<void> {
    await (await this.#agents)?.close()
  }
}
