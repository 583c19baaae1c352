// What the sandbox's processes find in their environment. The sidecar's own environment is no part of it.
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { type SidecarEnvironment, sidecarPaths } from '@atoll/protocol/sidecar'
import type { User } from './config.ts'
import { describe, type Log } from './log.ts'
import { trust } from './trust.ts'

type Variables = Readonly<Record<string, string>>

export interface Shells {
  /** `/bin/sh` runs commands. */
  readonly command: string | undefined
  /** What a person gets in a terminal. */
  readonly login: string | undefined
}

/** Looked up at each use: an image may bring its shell later. */
export function findShells(): Shells {
  const first = (...candidates: string[]): string | undefined => candidates.find((candidate) => existsSync(candidate))
  const command = first('/bin/sh', '/usr/bin/sh')
  return { command, login: first('/bin/bash', '/usr/bin/bash') ?? command }
}

const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Written by the operator before the sandbox starts: an object of strings. */
const imageVariablesName = 'image-env.json'

/** Nothing else can be passed to a process. */
const isVariable = (name: string, value: unknown): value is string =>
  /^[^=\0]+$/.test(name) && typeof value === 'string' && !value.includes('\0')

/** What the image sets for its processes. Whatever is wrong with it, the sandbox works without. */
export function readImageVariables(state: string, log: Log): Variables {
  const file = path.join(state, imageVariablesName)
  if (!existsSync(file)) return {}
  try {
    const found: unknown = JSON.parse(readFileSync(file, 'utf8'))
    const entries: [string, unknown][] = Object.entries(Object(found))
    return Object.fromEntries(entries.flatMap(([name, value]) => (isVariable(name, value) ? [[name, value]] : [])))
  } catch (error) {
    log('warn', 'the variables of the image cannot be read', describe(error))
    return {}
  }
}

/** The environment of processes that start from here on. */
export class Environment {
  readonly #user: User
  readonly #ofImage: Variables
  readonly #trustFolder: string
  #given: SidecarEnvironment = { env: {}, secrets: {} }
  #trusted: readonly Variables[] = []

  constructor(user: User, ofImage: Variables, trustFolder: string = sidecarPaths.trust) {
    this.#user = user
    this.#trustFolder = trustFolder
    this.#ofImage = ofImage
  }

  get secretNames(): readonly string[] {
    return Object.keys(this.#given.secrets)
  }

  replace(given: SidecarEnvironment): void {
    const caPem = given.gateway?.caPem
    this.#trusted = caPem === undefined ? [] : trust(this.#trustFolder, caPem)
    this.#given = given
  }

  /** What the sandbox was given last. */
  get given(): SidecarEnvironment {
    return this.#given
  }

  /** The image's first, then ours, then what the sandbox was given, then what the request asks for; and what the gateway offers beside. */
  of(cwd: string, requested: Variables = {}): Record<string, string> {
    return this.withGateway(this.ownOf(cwd, requested))
  }

  /** @param without names of which none is to be offered by the gateway, nor what belongs to them */
  withGateway(own: Variables, without: readonly string[] = []): Record<string, string> {
    const groups = [...(this.#given.gateway?.variables ?? []), ...this.#trusted].filter((group) =>
      Object.keys(group).every((name) => !Object.hasOwn(own, name) && !without.includes(name)),
    )
    return Object.assign({}, ...groups, own)
  }

  /** The same without the gateway. */
  ownOf(cwd: string, requested: Variables = {}): Record<string, string> {
    const { home, name } = this.#user
    return {
      LANG: 'C.UTF-8',
      ...this.#ofImage,
      HOME: home,
      USER: name,
      LOGNAME: name,
      SHELL: findShells().login ?? '/bin/sh',
      PATH: [path.join(home, '.local/bin'), path.join(home, 'bin'), this.#ofImage.PATH || systemPath].join(':'),
      PWD: cwd,
      ...this.#given.env,
      ...this.#given.secrets,
      ...requested,
    }
  }
}
