// Starts a real operator process on a free port with folders of its own, for tests and benchmarks.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, createWriteStream, mkdtempSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../operator/src/main.ts', import.meta.url))

export interface OperatorOptions {
  readonly runtime?: 'docker' | 'namespace'
  /** More settings. */
  readonly env?: Readonly<Record<string, string>>
  /** Open files that the operator finds in itself. */
  readonly descriptors?: readonly number[]
  /** The folders of an operator that was started before, to go on with what it had. */
  readonly folder?: string
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly body: any
}

export interface CallOptions {
  readonly key?: string | undefined
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

export class TestOperator {
  readonly url: string
  readonly folder: string
  readonly adminKey: string
  readonly #child: ChildProcess
  #isStopped = false

  constructor(parts: { url: string; folder: string; adminKey: string; child: ChildProcess }) {
    this.url = parts.url
    this.folder = parts.folder
    this.adminKey = parts.adminKey
    this.#child = parts.child
  }

  get pid(): number {
    return this.#child.pid ?? -1
  }

  /** One call of the API; with the admin key unless `key` says otherwise (undefined: with none). */
  async call(method: string, target: string, options: CallOptions = {}): Promise<Answer> {
    const response = await this.fetch(method, target, options)
    const text = await response.text()
    const isJson = response.headers.get('content-type')?.startsWith('application/json') ?? false
    return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : undefined }
  }

  fetch(method: string, target: string, options: CallOptions = {}): Promise<Response> {
    const key = 'key' in options ? options.key : this.adminKey
    const isRaw = typeof options.body === 'string' || options.body instanceof Uint8Array || options.body instanceof ReadableStream
    return fetch(`${this.url}${target}`, {
      method,
      headers: {
        ...(key !== undefined && { authorization: `Bearer ${key}` }),
        ...(options.body !== undefined && !isRaw && { 'content-type': 'application/json' }),
        ...options.headers,
      },
      ...(options.body !== undefined && { body: isRaw ? (options.body as string) : JSON.stringify(options.body), duplex: 'half' }),
      ...(options.signal && { signal: options.signal }),
      redirect: 'manual',
    } as RequestInit)
  }

  /** A key of somebody else. */
  async newKey(owner: string, scope: 'owner' | 'read' | 'admin' = 'owner'): Promise<string> {
    const { status, body, text } = await this.call('POST', '/api/keys', { body: { owner, scope, name: `test ${owner}` } })
    if (status !== 201) throw new Error(`no key for ${owner}: ${status} ${text}`)
    return body.key
  }

  /** A running sandbox of the admin, or of the key's owner. */
  async newSandbox(spec: object = {}, key = this.adminKey): Promise<string> {
    const { status, body, text } = await this.call('POST', '/api/sandboxes', { key, body: { memory_mb: 512, disk_gb: 1, ...spec } })
    if (status !== 201) throw new Error(`no sandbox: ${status} ${text}`)
    return body.id
  }

  /** As a crash would. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#ended()
  }

  async #ended(): Promise<void> {
    this.#isStopped = true
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
  }

  /** Stops gracefully and leaves folders and sandboxes. */
  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM')
    await this.#ended()
    return this.#child.exitCode
  }

  /** Removes every sandbox, stops, and removes the folders. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isStopped) {
      const { body } = await this.call('GET', '/api/sandboxes?limit=500&state=creating,running,paused,stopped,deleting,ended')
      for (const { id } of body?.sandboxes ?? []) await this.call('DELETE', `/api/sandboxes/${id}`)
      await this.stop()
    }
    await rm(this.folder, { recursive: true, force: true })
  }
}

/** What an operator starts from: nothing of the caller's environment but what a program needs. */
const environment = (folder: string, options: OperatorOptions): Record<string, string> => ({
  PATH: process.env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: os.homedir(),
  ATOLL_PORT: '0',
  ATOLL_STATE_DIR: path.join(folder, 'state'),
  ATOLL_RUN_DIR: path.join(folder, 'run'),
  ATOLL_RATE_LIMITS: 'off',
  ...(options.runtime && { SANDBOX_RUNTIME_BACKEND: options.runtime }),
  ...options.env,
})

/** @throws Error with the operator's own output when it does not start */
export async function startOperator(options: OperatorOptions = {}): Promise<TestOperator> {
  const folder = options.folder ?? mkdtempSync(path.join(os.tmpdir(), 'atoll-test-'))
  chmodSync(folder, 0o711) // Sandbox users must get to their disks below it.
  const env = environment(folder, options)
  const child = spawn(process.execPath, [main], { env, stdio: ['ignore', 'pipe', 'pipe', ...(options.descriptors ?? [])] })
  const log = createWriteStream(path.join(folder, 'operator.log'), { flags: 'a' })
  const tail: string[] = []
  const { stdout, stderr } = child
  if (!stdout || !stderr) throw new Error('the operator was started without its output')
  for (const stream of [stdout, stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      log.write(`${line}\n`)
      tail.push(line)
      if (tail.length > 30) tail.shift()
    })
  }
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: stdout }).on('line', (line) => {
      const found = /"event":"listening","url":"([^"]+)"/.exec(line)?.[1]
      if (found) resolve(found)
    })
    child.once('exit', (code) => reject(new Error(`the operator ended with ${code} before it listened:\n${tail.join('\n')}`)))
    setTimeout(() => reject(new Error(`the operator did not listen within 60 s:\n${tail.join('\n')}`)), 60_000).unref()
  })
  const adminKey = (await readFile(path.join(folder, 'state/admin-key'), 'utf8')).trim()
  return new TestOperator({ url, folder, adminKey, child })
}
