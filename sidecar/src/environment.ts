// What the sandbox's processes find in their environment. The sidecar's own environment is no part of it.
import { existsSync } from 'node:fs'
import path from 'node:path'
import type { SidecarEnvironment } from '@atoll/protocol/sidecar'
import type { User } from './config.ts'

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

/** The environment of processes that start from here on. */
export class Environment {
  readonly #user: User
  #given: SidecarEnvironment = { env: {}, secrets: {} }

  constructor(user: User) {
    this.#user = user
  }

  get secretNames(): readonly string[] {
    return Object.keys(this.#given.secrets)
  }

  replace(given: SidecarEnvironment): void {
    this.#given = { env: given.env, secrets: given.secrets }
  }

  /** Ours first, then what the sandbox was given, then what the request asks for. */
  of(cwd: string, requested: Variables = {}): Record<string, string> {
    const { home, name } = this.#user
    const bin = [path.join(home, '.local/bin'), path.join(home, 'bin'), systemPath].join(':')
    return {
      HOME: home,
      USER: name,
      LOGNAME: name,
      SHELL: findShells().login ?? '/bin/sh',
      PATH: bin,
      LANG: 'C.UTF-8',
      PWD: cwd,
      ...this.#given.env,
      ...this.#given.secrets,
      ...requested,
    }
  }
}
