// Starts users' processes: as the sandbox user, in their own session and group, with an environment that is only theirs.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, statSync } from 'node:fs'
import path from 'node:path'
import { Failure } from '@atoll/protocol'
import type { RunRequest } from '@atoll/protocol/sidecar'
import type { Config } from '../config.ts'
import { type Environment, findShells } from '../environment.ts'
import { Child } from './child.ts'
import type { Masters } from './masters.ts'
import type { Unprotected } from './oom-score.ts'
import type { Pipes } from './pipes.ts'
import { pipesFor, type Stdin, wire } from './streams.ts'

export interface LaunchParts {
  readonly config: Config
  readonly environment: Environment
  readonly unprotected: Unprotected
  readonly masters: Masters
  readonly pipes: Pipes
  /** Whether a path is a directory, asked by a process of the sandbox user. @throws Failure `file.*` */
  readonly checkDirectory: (directory: string) => Promise<void>
}

export interface Launch {
  readonly argv: readonly string[]
  readonly cwd: string
  readonly env: Record<string, string>
  readonly stdin: Stdin
}

/** A program that cannot be run is a result, with the numbers that shells use. */
export interface NotRunnable {
  readonly code: 126 | 127
  readonly message: string
}

export type Launched = Child | NotRunnable

/** By what it has, since the class has a copy where code stands beside the bundle. */
export const isChild = (launched: Launched): launched is Child => 'pid' in launched

const missing = new Set(['ENOENT', 'ENOTDIR'])
const notExecutable = new Set(['EACCES', 'EPERM', 'ENOEXEC', 'ELOOP', 'EISDIR', 'E2BIG', 'ENAMETOOLONG', 'EINVAL', 'ETXTBSY', 'ELIBBAD'])

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : '')

/** What a failed spawn means. @throws Failure `process.spawn_failed` when the sandbox has no room for another process */
function notRunnable(program: string, error: unknown): NotRunnable {
  const code = codeOf(error)
  if (missing.has(code)) return { code: 127, message: `${program}: not found\n` }
  if (notExecutable.has(code)) return { code: 126, message: `${program}: cannot be executed (${code})\n` }
  throw new Failure('process.spawn_failed', `The process could not be started (${code || error}). The sandbox may be at a limit.`, {
    cause: error,
    retryAfterMs: 1000,
  })
}

/**
 * Node changes directory before it gives up the sidecar's identity, and the sidecar has no right to enter directories that only the
 * user may. There a shell goes in, as the user.
 */
const throughShell = (shell: string, cwd: string, argv: readonly string[]): string[] => [
  shell,
  '-c',
  'cd -- "$0" && exec "$@"',
  cwd,
  ...argv,
]

type Reach = 'direct' | 'as-user'

/** @throws Failure when the sidecar can tell that there is no such directory */
function reach(directory: string): Reach {
  try {
    if (!statSync(directory).isDirectory()) throw new Failure('file.not_a_directory', `${directory} is not a directory.`)
    accessSync(directory, constants.X_OK)
    return 'direct'
  } catch (error) {
    const code = codeOf(error)
    if (code === 'EACCES') return 'as-user'
    if (missing.has(code)) throw new Failure('file.not_found', `The working directory ${directory} does not exist.`, { cause: error })
    if (code.startsWith('E'))
      throw new Failure('file.invalid_path', `${directory} cannot be a working directory (${code}).`, { cause: error })
    throw error
  }
}

export class Launcher {
  readonly #parts: LaunchParts
  readonly #live = new Set<Child>()

  constructor(parts: LaunchParts) {
    this.#parts = parts
  }

  get liveCount(): number {
    return this.#live.size
  }

  /** Every process that lives, for the end of the sandbox. */
  get live(): readonly Child[] {
    return [...this.#live]
  }

  /** What a request comes down to. @throws Failure `image.no_shell` */
  plan(request: RunRequest, stdin: Launch['stdin']): Launch {
    const cwd = path.resolve(this.#parts.config.workspace, request.cwd ?? '.')
    return { argv: this.#argv(request), cwd, env: this.#parts.environment.of(cwd, request.env), stdin }
  }

  #argv({ argv, command }: RunRequest): readonly string[] {
    if (argv && argv.length > 0) return argv
    if (command === undefined) throw new Failure('request.invalid', 'A command or argv is needed.')
    const shell = findShells().command
    if (shell === undefined) throw new Failure('image.no_shell', 'This image has no /bin/sh. Give the program as argv.')
    return [shell, '-c', command]
  }

  /** @throws Failure `process.too_many`, `process.spawn_failed`, or why the working directory will not do */
  async launch(launch: Launch): Promise<Launched> {
    const { config, pipes, unprotected, masters } = this.#parts
    const { argv, cwd, env } = await this.place(launch)
    const taken = await pipes.take(pipesFor(launch.stdin))
    if (this.#live.size >= config.limits.liveProcesses) {
      pipes.giveBack(taken ?? [])
      throw new Failure('process.too_many', `The sandbox runs ${this.#live.size} processes already. Wait for one, or remove one.`)
    }
    const [program = '', ...rest] = argv
    const { uid, gid } = config.user
    const wiring = wire(launch.stdin, taken)
    let spawned: ChildProcess
    try {
      spawned = unprotected(() => spawn(program, rest, { cwd, env, uid, gid, detached: true, stdio: masters.covered(wiring.stdio) }))
    } catch (error) {
      wiring.abandon()
      return notRunnable(launch.argv[0] ?? '', error)
    }
    const { pid } = spawned
    if (pid === undefined) {
      wiring.abandon()
      const [error] = await once(spawned, 'error')
      return notRunnable(launch.argv[0] ?? '', error)
    }
    const child = new Child(spawned, { pid, streams: wiring.connect(spawned), graceMs: config.limits.killGraceMs })
    this.#live.add(child)
    void child.exit.then(() => this.#live.delete(child))
    return child
  }

  /** Puts a launch where it can start from. @throws Failure why the working directory will not do */
  async place(launch: Launch): Promise<Launch> {
    if (reach(launch.cwd) === 'direct') return launch
    await this.#parts.checkDirectory(launch.cwd)
    const shell = findShells().command
    if (shell === undefined)
      throw new Failure('image.no_shell', `Only the user may enter ${launch.cwd}, and the image has no shell to do it.`)
    return { ...launch, cwd: '/', argv: throughShell(shell, launch.cwd, launch.argv) }
  }
}
