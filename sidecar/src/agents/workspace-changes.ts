// Finds the files that shell commands of a run changed: nobody else reports those.
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { changesBetween, type Snapshot } from '../files/snapshot.ts'
import type { RunEvent } from './event-bounds.ts'

/** How long the first look may hold up the start of a turn. It goes on beside it. */
const headStartMs = 20
const settleMs = 3000
/** More says nothing to anybody, as after an installation. */
const maxChanges = 500

export interface ChangesParts {
  readonly workspace: string
  readonly cwd: string
  readonly snapshot: (directory: string) => Promise<Snapshot>
  readonly tell: (event: RunEvent) => void
}

const isWithin = (root: string, file: string): boolean => file === root || file.startsWith(`${root}/`)

export class WorkspaceChanges {
  readonly #parts: ChangesParts
  readonly #root: string
  readonly #shells = new Set<string>()
  /** Reported by the harness since the last look. */
  readonly #reported = new Set<string>()
  #last: Promise<Snapshot | undefined> = Promise.resolve(undefined)

  constructor(parts: ChangesParts) {
    this.#parts = parts
    this.#root = isWithin(parts.workspace, parts.cwd) ? parts.workspace : parts.cwd
  }

  #look(): Promise<Snapshot | undefined> {
    // A directory that cannot be looked at has no changes to tell.
    return this.#parts.snapshot(this.#root).catch(() => undefined)
  }

  async begin(): Promise<void> {
    this.#last = this.#look()
    const waiting = new AbortController()
    await Promise.race([this.#last, delay(headStartMs, undefined, { signal: waiting.signal }).catch(() => undefined)])
    waiting.abort()
  }

  /** The path as events tell it: relative to the workspace, or absolute outside of it. */
  shown(file: string): string {
    const absolute = path.resolve(this.#parts.cwd, file)
    return isWithin(this.#parts.workspace, absolute) ? path.relative(this.#parts.workspace, absolute) : absolute
  }

  /** Sees every event of the harness, after it was told. */
  notice(event: RunEvent): void {
    if (event.type === 'tool.started' && event.kind === 'shell') this.#shells.add(event.tool_id)
    else if (event.type === 'file.changed') this.#reported.add(event.path)
    else if (event.type === 'tool.finished' && this.#shells.delete(event.tool_id)) this.#compare(event.tool_id)
  }

  #compare(toolId?: string): void {
    const before = this.#last
    this.#last = before.then(async (earlier) => {
      const later = await this.#look()
      if (earlier && later) this.#tell(earlier, later, toolId)
      return later ?? earlier
    })
  }

  #tell(before: Snapshot, after: Snapshot, toolId: string | undefined): void {
    const known = [...this.#reported]
    this.#reported.clear()
    const changes = changesBetween(before, after)
      .map(({ path: file, change }) => ({ path: this.shown(path.join(this.#root, file)), change }))
      .filter((change) => !known.includes(change.path))
    for (const change of changes.slice(0, maxChanges)) {
      this.#parts.tell({ type: 'file.changed', ...change, ...(toolId !== undefined && { tool_id: toolId }) })
    }
    if (changes.length > maxChanges) {
      this.#parts.tell({ type: 'warning', message: `${changes.length - maxChanges} more files have changed.` })
    }
  }

  /** Tells what is left to tell. */
  async settle(): Promise<void> {
    this.#compare()
    const waiting = new AbortController()
    await Promise.race([this.#last, delay(settleMs, undefined, { signal: waiting.signal }).catch(() => undefined)])
    waiting.abort()
  }
}
