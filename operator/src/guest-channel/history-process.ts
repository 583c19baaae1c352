// One process that reads the history of one sandbox.
import { type ChildProcess, spawn } from 'node:child_process'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { Failure } from '@atoll/protocol'
import { hostEnvironment } from '../host/command.ts'
import type { Guest, OpenGuest } from '../sandboxes/guest.ts'
import type { Reader } from '../sandboxes/history.ts'

export interface HistoryProcessOptions {
  /** Folder with `node` and `sidecar.mjs`. */
  readonly programDir: string
  /** Of the conversations. */
  readonly directory: string
  readonly socketPath: string
  /** User and group that it gives itself. */
  readonly uid: number
  readonly openGuest: OpenGuest
}

/** A folder as large as one may be is read in a fraction of this; a hostile one is given up. */
const readyDeadlineMs = 10_000
const heapMb = 256
/** No network, nobody's semaphores, and no way to more rights. It gives up those that it has by itself, once it has read its program. */
const confined = ['--net', '--ipc', '--uts', '--', 'setpriv', '--no-new-privs', '--']
const tailLength = 1000

/** @throws Failure `agent.history_unreadable` */
export const unreadable = (cause: unknown): Failure =>
  new Failure('agent.history_unreadable', 'What agents did cannot be read while the sandbox is stopped. Resume it and try again.', {
    cause,
  })

/** What fails where a sandbox would not answer. */
async function orUnreadable<Result>(answer: Promise<Result>): Promise<Result> {
  try {
    return await answer
  } catch (error) {
    throw error instanceof Failure && error.code === 'sandbox.unreachable' ? unreadable(error) : error
  }
}

export class HistoryProcess {
  readonly guest: Reader['guest']
  /** Resolves when it has ended, however. */
  readonly ended: Promise<void>
  readonly #child: ChildProcess
  readonly #channel: Guest
  #tail = ''

  constructor({ programDir, directory, socketPath, uid, openGuest }: HistoryProcessOptions) {
    const program = [path.join(programDir, 'node'), `--max-old-space-size=${heapMb}`, path.join(programDir, 'sidecar.mjs')]
    this.#child = spawn('unshare', [...confined, ...program, '--history', socketPath, String(uid)], {
      cwd: directory,
      env: { ...hostEnvironment },
      // It ends when the other end of its input is gone, whatever became of the operator.
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    this.#child.stdout?.on('data', (bytes: Buffer) => {
      this.#tail = `${this.#tail}${bytes}`.slice(-tailLength)
    })
    const channel = openGuest(socketPath)
    this.#channel = channel
    this.guest = {
      send: (request) => orUnreadable(channel.send(request)),
      call: (request) => orUnreadable(channel.call(request)),
    }
    this.ended = new Promise<void>((resolve) => this.#child.once('error', () => resolve()).once('exit', () => resolve()))
      .then(() => {
        channel.close()
        return rm(socketPath, { force: true })
      })
      .catch(() => undefined) // A name of a socket on which nobody listens harms nobody.
  }

  /** Waits until it has read the folder. @throws Error with its last words when it cannot */
  async ready(): Promise<void> {
    const abort = new AbortController()
    const ended = this.ended.then(() => abort.abort())
    try {
      await Promise.race([this.#channel.ready(readyDeadlineMs, abort.signal), ended])
    } catch (cause) {
      if (!abort.signal.aborted) throw cause
    }
    if (abort.signal.aborted) throw new Error(`the process that reads it ended: ${this.#tail.trimEnd().split('\n').at(-1)}`)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}
