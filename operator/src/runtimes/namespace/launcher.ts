// A bubblewrap process in a user namespace of its own that waits to be told what to make. One can be held in reserve, so that a start
// pays for the sandbox alone; it ends by itself when the operator dies before telling it.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { hostEnvironment } from '../../host/command.ts'
import { type ProcessIdentity, processIdentity } from './process-identity.ts'
import { sidecarCapabilities } from './root-file-system.ts'
import { rangeSize } from './uid-ranges.ts'

/** Where bubblewrap finds its filter and its arguments, and tells the pid of the sandbox's first process. */
const fd = { seccomp: 3, args: 4, info: 5 } as const

/**
 * The kernel counts these for all sandboxes together, and for root itself, whose limit they share: none may have it all. A kernel that does
 * not count them has no such files.
 */
const shares: Readonly<Record<string, number>> = { max_inotify_instances: 32, max_inotify_watches: 65_536 }
const limitShares = [
  ...Object.entries(shares).map(([name, most]) => `f=/proc/sys/user/${name}; [ ! -e $f ] || echo ${most} > $f`),
  'exec "$@"',
].join('; ')

const launchDeadlineMs = 20_000
const infoPollMs = 2

/** A file and no pipe: writing to a pipe of a dead operator would kill bubblewrap halfway, and what it has begun would wait for it for ever. */
const infoPathOf = (logPath: string): string => `${logPath}.info`

export interface LauncherOptions {
  /** First host user id of the sandbox's range. */
  readonly base: number
  readonly logPath: string
  readonly seccompPath: string
  /** What runs inside, as an argument vector. */
  readonly command: readonly string[]
}

export class Launcher {
  readonly base: number
  /** Where its log was begun; bubblewrap's word on the sandbox is beside it. */
  readonly logPath: string
  readonly process: ProcessIdentity
  readonly #child: ChildProcess
  readonly #holder: ChildProcess
  readonly #input: Socket
  /** How it ended, once it has. */
  readonly #ended: Promise<string>

  constructor(options: { base: number; logPath: string; child: ChildProcess; holder: ChildProcess; identity: ProcessIdentity }) {
    this.base = options.base
    this.logPath = options.logPath
    this.process = options.identity
    this.#child = options.child
    this.#holder = options.holder
    const input = options.child.stdio[fd.args]
    if (!(input instanceof Socket)) throw new Error('bubblewrap was started without a way to tell it what to make')
    this.#input = input
    this.#ended = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => resolve(signal ? `was killed by ${signal}` : `ended with ${code}`))
    })
    // One that waits in reserve must not keep the operator from ending.
    this.#child.unref()
    this.#input.unref()
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** Resolves with how it ended, when it does. */
  get ended(): Promise<string> {
    return this.#ended
  }

  /** Makes the sandbox. Resolves with its first process; with undefined when bubblewrap ended without making one. */
  async launch(args: readonly string[]): Promise<ProcessIdentity | undefined> {
    this.#child.ref()
    this.#input.on('error', ignoreBrokenPipe)
    this.#input.end(args.map((arg) => `${arg}\0`).join(''))
    const info = await this.#readInfo()
    this.#letGo()
    const pid = /"child-pid":\s*(\d+)/.exec(info)?.[1]
    if (pid === undefined) return undefined
    try {
      return processIdentity(Number(pid))
    } catch {
      return undefined // It died at once; the caller hears from `ended`.
    }
  }

  /** What bubblewrap says of the sandbox once it has made its first process. */
  async #readInfo(): Promise<string> {
    const deadline = Date.now() + launchDeadlineMs
    for (;;) {
      // Looked at before the file is read: what was written before the end is then in it.
      const isOver = this.hasEnded
      const info = readFileSync(infoPathOf(this.logPath), 'utf8')
      if (info.includes('}') || isOver) return info
      if (Date.now() > deadline) this.#child.kill('SIGKILL')
      await delay(infoPollMs)
    }
  }

  /** Ends it. What it has made may go on. */
  async discard(): Promise<void> {
    if (!this.hasEnded) {
      this.#child.ref()
      // Before its input is closed, which it would take for an order to make a sandbox of nothing.
      this.#child.kill('SIGKILL')
      await this.#ended
    }
    this.#letGo()
  }

  /** A sandbox outlives the operator: nothing here may keep it waiting. */
  #letGo(): void {
    this.#holder.kill('SIGKILL')
    this.#input.destroy()
    rmSync(infoPathOf(this.logPath), { force: true })
    this.#child.unref()
  }
}

/** It means that bubblewrap has ended, and `ended` says how. */
const ignoreBrokenPipe = (): void => undefined

/** Starts a process in a new user namespace that maps the range, and keeps it there until it is killed or the operator dies. */
async function openUserNamespace(base: number): Promise<ChildProcess> {
  const holder = spawn('unshare', ['--user', 'cat'], { stdio: ['pipe', 'pipe', 'ignore'], env: { ...hostEnvironment } })
  const deadline = setTimeout(() => holder.kill('SIGKILL'), launchDeadlineMs)
  const failed = once(holder, 'exit').then(() => {
    throw new Error('no user namespace could be made (unshare --user failed)')
  })
  try {
    // An answer from `cat` shows that it runs inside the new namespace.
    holder.stdin?.on('error', ignoreBrokenPipe)
    holder.stdin?.write('\n')
    await Promise.race([once(holder.stdout as Readable, 'data'), failed])
    for (const map of ['uid_map', 'gid_map']) writeFileSync(`/proc/${holder.pid}/${map}`, `0 ${base} ${rangeSize}`)
    return holder
  } catch (error) {
    holder.kill('SIGKILL')
    throw error
  } finally {
    clearTimeout(deadline)
    failed.catch(ignoreBrokenPipe)
    holder.unref()
  }
}

export async function openLauncher({ base, logPath, seccompPath, command }: LauncherOptions): Promise<Launcher> {
  const holder = await openUserNamespace(base)
  const log = openSync(logPath, 'a', 0o600)
  const seccomp = openSync(seccompPath, 'r')
  const info = openSync(infoPathOf(logPath), 'w', 0o600)
  try {
    const enter = [`--user=/proc/${holder.pid}/ns/user`, '--setuid', '0', '--setgid', '0', '--']
    // bubblewrap inherits what it needs to build the sandbox; nothing that it starts can ever have more than the bounds.
    const share = ['sh', '-c', limitShares, 'sh']
    const bounds = sidecarCapabilities.map((name) => `+${name}`).join()
    const bound = ['setpriv', '--inh-caps=+all', '--', 'setpriv', `--bounding-set=-all,${bounds}`, '--']
    const wrap = ['bwrap', '--args', String(fd.args), '--info-fd', String(fd.info), '--seccomp', String(fd.seccomp), '--', ...command]
    const child = spawn('nsenter', [...enter, ...share, ...bound, ...wrap], {
      cwd: '/',
      env: { ...hostEnvironment },
      detached: true,
      stdio: ['ignore', log, log, seccomp, 'pipe', info],
    })
    await once(child, 'spawn')
    const { pid } = child
    if (pid === undefined) throw new Error('bubblewrap could not be started')
    return new Launcher({ base, logPath, child, holder, identity: processIdentity(pid) })
  } catch (error) {
    holder.kill('SIGKILL')
    throw error
  } finally {
    for (const descriptor of [log, seccomp, info]) closeSync(descriptor)
  }
}
