// Which paths callers may name. This runs as the sandbox user, so a link that is swapped in between reaches only what the user could.
import { realpath } from 'node:fs/promises'
import path from 'node:path'
import { Failure } from '@atoll/protocol'
import { errnoOf } from './file-failure.ts'

export interface Located {
  /** As the caller knows it: absolute, with the links that it goes through. */
  readonly path: string
  /** Where it really is. */
  readonly real: string
}

const isWithin = (root: string, candidate: string): boolean => candidate === root || candidate.startsWith(root === '/' ? root : `${root}/`)

/** The real path of what exists of it, with the rest behind. */
async function realOf(absolute: string): Promise<string> {
  try {
    return await realpath(absolute)
  } catch (error) {
    const parent = path.dirname(absolute)
    if (errnoOf(error) !== 'ENOENT' || parent === absolute) throw error
    return path.join(await realOf(parent), path.basename(absolute))
  }
}

export class Paths {
  readonly #workspace: string
  readonly #roots: readonly string[]

  /** Relative paths start in the workspace; everything is below one of the roots. */
  constructor(workspace: string, roots: readonly string[]) {
    this.#workspace = workspace
    this.#roots = roots
  }

  #absolute(given: string): string {
    if (given === '' || given.includes('\0')) throw new Failure('file.invalid_path', 'A path is needed, without NUL bytes.')
    if (Buffer.byteLength(given) > 4096) throw new Failure('file.invalid_path', 'The path is longer than 4096 bytes.')
    const absolute = path.resolve(this.#workspace, given)
    if (!this.#roots.some((root) => isWithin(root, absolute))) throw this.#outside(given)
    return absolute
  }

  #outside(given: string): Failure {
    return new Failure('file.outside', `${given} is outside of ${this.#roots.join(', ')}.`)
  }

  async #check(given: string, real: string): Promise<string> {
    for (const root of this.#roots) if (isWithin(await realOf(root), real)) return real
    throw this.#outside(given)
  }

  /** What the path leads to. @throws Failure `file.outside`, `file.invalid_path` */
  async target(given: string): Promise<Located> {
    const absolute = this.#absolute(given)
    return { path: absolute, real: await this.#check(given, await realOf(absolute)) }
  }

  /** The thing at the path itself, be it a link. @throws Failure `file.outside`, `file.invalid_path` */
  async entry(given: string): Promise<Located> {
    const absolute = this.#absolute(given)
    if (this.#roots.includes(absolute)) return this.target(given)
    const parent = await this.#check(given, await realOf(path.dirname(absolute)))
    return { path: absolute, real: path.join(parent, path.basename(absolute)) }
  }

  /** As `entry`, for what is taken away. @throws Failure also `file.permission` for the places themselves */
  async removable(given: string): Promise<Located> {
    const located = await this.entry(given)
    if (this.#roots.includes(located.path) || located.path === this.#workspace) {
      throw new Failure('file.permission', `${located.path} belongs to the sandbox itself and stays.`)
    }
    return located
  }
}
