// A built sidecar as a real process, with directories of its own, and a caller on its socket.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import http, { type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { ExecResult } from '@atoll/protocol'
import { bundle } from '../scripts/bundle.ts'

export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: Buffer
}

export interface CallOptions {
  readonly headers?: Record<string, string>
  /** Sent as JSON when it is a plain object. */
  readonly body?: object | string | Buffer | Readable
}

/** One event of a stream, as it travelled. */
export interface StreamEvent {
  readonly id: number | undefined
  readonly event: string
  readonly data: Record<string, unknown>
}

const isStream = (body: CallOptions['body']): body is Readable => typeof body === 'object' && 'pipe' in body

const deadlineMs = 20_000

/** Polls until it is true. */
export async function until(what: string, isTrue: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + deadlineMs
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error(`Waited ${deadlineMs} ms until ${what}`)
    await delay(20)
  }
}

function parseEvent(text: string): StreamEvent | undefined {
  const field = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, 'm').exec(text)?.[1]
  const data = field('data')
  if (data === undefined) return undefined
  const id = field('id')
  return { id: id === undefined ? undefined : Number(id), event: field('event') ?? '', data: JSON.parse(data) }
}

/** The events of an open stream, one by one as they come. */
export async function* eventsOf(body: Readable): AsyncGenerator<StreamEvent> {
  let rest = ''
  for await (const chunk of body.setEncoding('utf8')) {
    const texts = `${rest}${chunk}`.split('\n\n')
    rest = texts.pop() ?? ''
    for (const text of texts) {
      const event = parseEvent(text)
      if (event) yield event
    }
  }
}

export class SidecarProcess {
  readonly folder: string
  readonly socketPath: string
  readonly process: ChildProcess
  readonly #agent = new http.Agent({ keepAlive: true })
  #log = ''

  constructor(folder: string, process: ChildProcess) {
    this.folder = folder
    this.socketPath = path.join(folder, 'channel/sidecar.sock')
    this.process = process
    process.stdout?.on('data', (text) => {
      this.#log += text
    })
  }

  get home(): string {
    return path.join(this.folder, 'home')
  }

  get workspace(): string {
    return path.join(this.home, 'workspace')
  }

  get secrets(): string {
    return path.join(this.folder, 'secrets')
  }

  get log(): string {
    return this.#log
  }

  /** Opens an answer and leaves its body to the caller. */
  async open(method: string, target: string, { headers = {}, body }: CallOptions = {}): Promise<IncomingMessage> {
    const request = http.request({ agent: this.#agent, socketPath: this.socketPath, method, path: target, headers })
    if (isStream(body)) body.pipe(request)
    else request.end(body instanceof Buffer || typeof body !== 'object' ? body : JSON.stringify(body))
    const [answer] = await once(request, 'response')
    return answer
  }

  async call(method: string, target: string, options?: CallOptions): Promise<Answer> {
    const answer = await this.open(method, target, options)
    return { status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(await answer.toArray()) }
  }

  /** The JSON of an answer, whatever its status. */
  async json<Body = Record<string, unknown>>(method: string, target: string, body?: CallOptions['body']): Promise<Body> {
    return JSON.parse((await this.call(method, target, body === undefined ? {} : { body })).body.toString())
  }

  exec(command: string, more: object = {}): Promise<ExecResult> {
    return this.json('POST', '/exec', { command, ...more })
  }

  async events(target: string, headers: Record<string, string> = {}): Promise<AsyncGenerator<StreamEvent>> {
    return eventsOf(await this.open('GET', target, { headers }))
  }

  async allEvents(target: string, headers: Record<string, string> = {}): Promise<StreamEvent[]> {
    const all: StreamEvent[] = []
    for await (const event of await this.events(target, headers)) all.push(event)
    return all
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#agent.destroy()
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const ended = once(this.process, 'exit')
      this.process.kill('SIGTERM')
      await Promise.race([ended, delay(5000, undefined, { ref: false })])
      this.process.kill('SIGKILL')
    }
    await rm(this.folder, { recursive: true, force: true })
  }
}

export interface StartOptions {
  readonly env?: Record<string, string>
  /** Programs in front of the sidecar, which change what it may do. */
  readonly through?: readonly string[]
  /** Called before the start with the folder that everything will be in. */
  readonly prepare?: (folder: string) => Promise<void>
}

export async function startSidecarProcess({ env = {}, through = [], prepare }: StartOptions = {}): Promise<SidecarProcess> {
  const dist = await bundle()
  const folder = await mkdtemp(path.join(tmpdir(), 'atoll-sidecar-'))
  await chmod(folder, 0o755)
  await prepare?.(folder)
  const [program = '', ...rest] = [...through, path.join(dist, 'node'), path.join(dist, 'sidecar.mjs')]
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ATOLL_CHANNEL: path.join(folder, 'channel'),
      ATOLL_STATE: path.join(folder, 'state'),
      ATOLL_HOME: path.join(folder, 'home'),
      ATOLL_WORKSPACE: path.join(folder, 'home/workspace'),
      ATOLL_SECRETS: path.join(folder, 'secrets'),
      ATOLL_ROOT_HOME: path.join(folder, 'root'),
      ATOLL_GATEWAY_PORT: '0',
      ONLY_OF_THE_SIDECAR: 'leaked',
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      ...env,
    },
  })
  const sidecar = new SidecarProcess(folder, child)
  try {
    await until('the sidecar answers', async () => {
      if (child.exitCode !== null) throw new Error(`The sidecar ended at its start: ${sidecar.log}`)
      return (await sidecar.call('GET', '/health').catch(() => undefined))?.status === 200
    })
  } catch (error) {
    await sidecar[Symbol.asyncDispose]()
    throw error
  }
  return sidecar
}
