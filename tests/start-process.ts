// Runs npm start's script as a process with folders and a port of its own.
import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

const isOurs = (folder: string): boolean => folder.includes('node_modules')
const searchPath = (process.env['PATH'] ?? '/usr/bin:/bin').split(path.delimiter).filter((folder) => !isOurs(folder))

/** The Node that the machine has: the script runs on it before ours is installed. */
const machineNode = searchPath.map((folder) => path.join(folder, 'node')).find((file) => existsSync(file)) ?? process.execPath

export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Whether something listens there. */
const isTaken = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port })
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })

export class Start {
  stdout = ''
  stderr = ''
  /** Its status. */
  readonly ended: Promise<number>
  readonly child: ChildProcess
  #look: () => void = () => undefined

  constructor(child: ChildProcess) {
    this.child = child
    child.stdout?.setEncoding('utf8').on('data', (text) => {
      this.stdout += text
      this.#look()
    })
    child.stderr?.setEncoding('utf8').on('data', (text) => {
      this.stderr += text
      this.#look()
    })
    this.ended = new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? (signal ? 128 : 1))))
  }

  /** Waits until it has made a file. @throws Error when it ends first */
  async makes(file: string): Promise<void> {
    while (!existsSync(file)) {
      if (this.child.exitCode !== null || this.child.signalCode !== null) throw new Error(`it ended without ${file}:\n${this.stderr}`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  /** Waits until it has shown that, and gives what it was. @throws Error when it ends first */
  async shows(wanted: RegExp): Promise<RegExpExecArray> {
    let isOver = false
    const found = new Promise<RegExpExecArray>((resolve, reject) => {
      this.#look = () => {
        const match = wanted.exec(this.stderr) ?? wanted.exec(this.stdout)
        if (match) resolve(match)
        else if (isOver) reject(new Error(`it ended without ${wanted}:\n${this.stdout}\n${this.stderr}`))
      }
    })
    this.#look()
    void this.ended.then(() => {
      isOver = true
      this.#look()
    })
    return found
  }
}

interface StartOptions {
  readonly env?: Readonly<Record<string, string>>
  /** The copy to run. */
  readonly script?: string
  /** A program that runs it. */
  readonly wrap?: readonly string[]
  /** Its output then comes as one, and what is written to its input are keys. */
  readonly isOnTerminal?: boolean
}

/** State of one machine's operator. Disposed, it has no process, no sandbox and no folder. */
export class Home {
  readonly folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-start-'))
  readonly port: number
  readonly #starts: Start[] = []

  private constructor(port: number) {
    this.port = port
    chmodSync(this.folder, 0o711) // Sandbox users must get to their disks below it.
  }

  static async make(): Promise<Home> {
    return new Home(await freePort())
  }

  start(args: readonly string[], options: StartOptions = {}): Start {
    const { env = {}, script = path.join(root, 'scripts/start.mjs'), wrap = [], isOnTerminal = false } = options
    const line = [...wrap, machineNode, script, '--port', String(this.port), ...args]
    const [program = '', ...rest] = isOnTerminal
      ? ['script', '--quiet', '--return', '--command', `exec ${line.map(quoted).join(' ')}`, '/dev/null']
      : line
    const child = spawn(program, rest, { cwd: this.folder, env: { ...this.env, ...env }, stdio: 'pipe' })
    const started = new Start(child)
    this.#starts.push(started)
    return started
  }

  get env(): Record<string, string> {
    return {
      PATH: searchPath.join(path.delimiter),
      HOME: os.homedir(),
      ATOLL_STATE_DIR: path.join(this.folder, 'state'),
      ATOLL_RUN_DIR: path.join(this.folder, 'run'),
      ...(process.env['DOCKER_HOST'] && { DOCKER_HOST: process.env['DOCKER_HOST'] }),
    }
  }

  /** What was started for it and has not ended. */
  processes(): { pid: number; line: string }[] {
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
    const ours = pids.filter((pid) => textOf(`/proc/${pid}/environ`).includes(`=${this.folder}/`))
    return ours.map((pid) => ({ pid: Number(pid), line: textOf(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim() }))
  }

  /** Sandboxes that run, by the folders of their channels. */
  sandboxes(): string[] {
    const folder = path.join(this.folder, 'run')
    return existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith('sandbox-')) : []
  }

  /** File systems that are mounted for it: disks of sandboxes, and disks that are kept ready for them. */
  mounts(): string[] {
    const lines = readFileSync('/proc/mounts', 'utf8').split('\n')
    return lines.map((line) => line.split(' ')[1] ?? '').filter((place) => place.startsWith(`${this.folder}/`))
  }

  /** What is there of it beside its folder, when all is well nothing. */
  async leftovers(): Promise<string[]> {
    const processes = this.processes().map(({ line }) => line)
    return [...processes, ...this.sandboxes(), ...this.mounts(), ...((await isTaken(this.port)) ? ['its port is taken'] : [])]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child, ended } of this.#starts) {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
      await ended
    }
    // What a start leaves running, and what one that was killed leaves mounted, the next one removes.
    if (this.sandboxes().length > 0 || this.mounts().length > 0) {
      const cleaner = this.start(['--once', '--runtime', 'namespace'])
      if ((await cleaner.ended) !== 0) throw new Error(`what was left could not be removed:\n${cleaner.stderr}`)
    }
    await rm(this.folder, { recursive: true, force: true })
  }
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return '' // It ended in the meantime.
  }
}
