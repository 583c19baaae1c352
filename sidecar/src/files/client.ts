// The sidecar's side of the file worker: starts it when it is needed, keeps it, and passes calls on to it.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Failure, type FailureBody, isFailureCode } from '@atoll/protocol'
import type { Masters } from '../commands/masters.ts'
import type { Unprotected } from '../commands/oom-score.ts'
import type { Config } from '../config.ts'
import type { Log } from '../log.ts'
import { randomId } from '../random-id.ts'
import type { Call, Handler, Routes } from '../router.ts'
import type { KilledProcesses, ProcessMark } from './marked-processes.ts'
import type { SecretFiles } from './secret-files.ts'
import type { Snapshot } from './snapshot.ts'
import { workerSocket } from './worker-socket.ts'

export interface FilesClientParts {
  readonly config: Config
  readonly unprotected: Unprotected
  readonly masters: Masters
  readonly log: Log
}

const passedIn = ['content-length', 'content-type', 'range']
const passedOut = [
  'content-type',
  'content-length',
  'content-range',
  'accept-ranges',
  'etag',
  'last-modified',
  'cache-control',
  'x-accel-buffering',
]

const some = (headers: http.IncomingHttpHeaders, names: readonly string[]): http.OutgoingHttpHeaders =>
  Object.fromEntries(names.flatMap((name) => (headers[name] === undefined ? [] : [[name, headers[name]]])))

const brokenOff = (cause: unknown): Failure =>
  new Failure('sandbox.unreachable', 'The file worker of the sandbox ended in the middle of this. Try again.', { cause, retryAfterMs: 100 })

/** Of what a worker says before it ends. */
const maxSaidLength = 2000

const missing = new Set<string>(['file.not_found', 'file.not_a_directory'])

function notThere(thrown: unknown): undefined {
  if (!(thrown instanceof Failure && missing.has(thrown.code))) throw thrown
}

export class FilesClient {
  readonly #parts: FilesClientParts
  /** Of the worker that runs. Each has another, so that nobody can take the place of the next one. */
  #name = ''
  readonly #agent = new http.Agent({ keepAlive: true })
  #worker: Promise<ChildProcess> | undefined

  constructor(parts: FilesClientParts) {
    this.#parts = parts
  }

  /** @throws Failure `process.spawn_failed` */
  #ready(): Promise<ChildProcess> {
    this.#worker ??= this.#start().catch((cause: unknown) => {
      this.#worker = undefined
      throw new Failure('process.spawn_failed', 'The sandbox could not start its file worker. It may be at a limit.', {
        cause,
        retryAfterMs: 1000,
      })
    })
    return this.#worker
  }

  async #start(): Promise<ChildProcess> {
    const { config, unprotected, masters, log } = this.#parts
    const { uid, gid, home } = config.user
    const env = {
      HOME: home,
      ATOLL_HOME: home,
      ATOLL_WORKSPACE: config.workspace,
      ATOLL_SECRETS: config.secrets,
      ATOLL_READER_STALL_MS: String(config.limits.readerStallMs),
      ATOLL_HEARTBEAT_MS: String(config.limits.heartbeatMs),
    }
    const [, program = ''] = process.argv
    this.#name = randomId()
    const worker = unprotected(() =>
      // What a process of the user has open, or stands in, the user's other processes reach through /proc: nothing of the sidecar's disk,
      // which has no limit.
      spawn(process.execPath, [path.resolve(program), '--files', this.#name], {
        cwd: '/',
        env,
        uid,
        gid,
        detached: true,
        stdio: masters.covered(['pipe', 'pipe', 'pipe']),
      }),
    )
    const { stdout, stderr } = worker
    if (!stdout || !stderr) throw new Error('The file worker was started without its output.')
    let said = ''
    stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString('latin1')).slice(0, maxSaidLength)
    })
    worker.once('exit', (code, signal) => {
      this.#worker = undefined
      log('warn', 'the file worker ended', { code, signal, said })
    })
    const ended = once(worker, 'exit').then(() => Promise.reject(new Error('The file worker ended at its start.')))
    await Promise.race([once(stdout, 'data'), ended])
    ended.catch(() => undefined)
    return worker
  }

  async #request(options: { method: string; path: string; headers?: http.OutgoingHttpHeaders }): Promise<http.ClientRequest> {
    await this.#ready()
    return http.request({ ...options, agent: this.#agent, socketPath: workerSocket(this.#name) })
  }

  /** Passes a caller's request on, and the answer back, both as they come. */
  readonly forward: Handler = async ({ request, response, signal }: Call) => {
    const headers = some(request.headers, passedIn)
    const outgoing = await this.#request({ method: request.method ?? 'GET', path: request.url ?? '/', headers })
    const abandon = (): void => void outgoing.destroy()
    if (signal.aborted) abandon()
    else signal.addEventListener('abort', abandon, { once: true })
    request.once('error', abandon)
    request.pipe(outgoing)
    const [answer]: IncomingMessage[] = await once(outgoing, 'response').catch((cause: unknown) => {
      throw brokenOff(cause)
    })
    outgoing.on('error', () => response.destroy())
    if (!answer) throw brokenOff(undefined)
    response.writeHead(answer.statusCode ?? 500, some(answer.headers, passedOut))
    response.flushHeaders()
    await pipeline(answer, response).catch(() => response.destroy())
  }

  /** Asks the worker for the sidecar itself. @throws Failure of the worker */
  async #ask(method: string, target: string, body: object | string = {}): Promise<Buffer> {
    const outgoing = await this.#request({ method, path: target })
    // Of these two methods a body would travel without its length, and be taken for another request.
    if (method === 'GET' || method === 'DELETE') outgoing.end()
    else outgoing.end(typeof body === 'string' ? body : JSON.stringify(body))
    const [answer]: IncomingMessage[] = await once(outgoing, 'response').catch((cause: unknown) => {
      throw brokenOff(cause)
    })
    const bytes = Buffer.concat((await answer?.toArray()) ?? [])
    if (answer?.statusCode === 200) return bytes
    const { code, error }: Partial<FailureBody> = JSON.parse(bytes.toString())
    throw new Failure(isFailureCode(code) ? code : 'internal', error ?? 'The file worker refused.')
  }

  /** @throws Failure `file.*` unless the user may go into it */
  async checkDirectory(directory: string): Promise<void> {
    await this.#ask('GET', `/directory?${new URLSearchParams({ path: directory })}`)
  }

  async makeDirectory(directory: string, mode = '755'): Promise<void> {
    await this.#ask('POST', `/directory?${new URLSearchParams({ path: directory, mode })}`)
  }

  /** Writes a file that only the user may read, with the directories that it is in. */
  async writePrivateFile(file: string, content: string): Promise<void> {
    await this.#ask('PUT', `/files/content?${new URLSearchParams({ path: file, mode: '600' })}`, content)
  }

  /** Undefined when there is no such file. */
  async readFile(file: string): Promise<Buffer | undefined> {
    return this.#ask('GET', `/files/content?${new URLSearchParams({ path: file })}`).catch(notThere)
  }

  async isThere(file: string): Promise<boolean> {
    return (await this.#ask('GET', `/files/stat?${new URLSearchParams({ path: file })}`).catch(notThere)) !== undefined
  }

  async removeDirectory(directory: string): Promise<void> {
    await this.#ask('DELETE', `/files?${new URLSearchParams({ path: directory, recursive: 'true' })}`).catch(notThere)
  }

  async snapshot(directory: string): Promise<Snapshot> {
    return JSON.parse((await this.#ask('GET', `/snapshot?${new URLSearchParams({ path: directory })}`)).toString())
  }

  /** Kills what is left of a run, and answers how many processes that were. */
  async killMarked(mark: ProcessMark): Promise<KilledProcesses> {
    return JSON.parse((await this.#ask('POST', '/marked-processes', mark)).toString())
  }

  async writeSecrets(files: SecretFiles): Promise<void> {
    await this.#ask('PUT', '/secrets', files)
  }
}

export function fileRoutes(files: FilesClient): Routes {
  const served = [
    'GET /files',
    'GET /files/stat',
    'GET /files/content',
    'PUT /files/content',
    'POST /files/mkdir',
    'POST /files/move',
    'DELETE /files',
    'GET /files/watch',
  ]
  return Object.fromEntries(served.map((key) => [key, files.forward]))
}
