// The guest channel as HTTP/1.1 on the sandbox's unix socket, with warm connections.
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure, type FailureBody, isFailureCode } from '@atoll/protocol'
import type { SidecarEnvironment, SidecarHealth } from '@atoll/protocol/sidecar'
import type { Guest, GuestAnswer, GuestRequest, Upgraded } from '../sandboxes/guest.ts'

/** Shorter than the sidecar's own, so that the operator is the one who closes an idle connection. */
const idleConnectionMs = 5 * 60_000
const maxConnections = 512

/** Only names a file, and opens nothing of it (`O_PATH`). */
const pathOnly = 0o10000000

/**
 * A sandbox could put a link to another socket of the host in its channel directory, at any moment: what was looked at is what is connected
 * to, and not whatever has its name by then. A socket that cannot be had fails as a connection does.
 */
const connectSocket = (socketPath: string): net.Socket => {
  let descriptor: number | undefined
  try {
    descriptor = openSync(socketPath, pathOnly | constants.O_NOFOLLOW)
    if (!fstatSync(descriptor).isSocket()) throw new Failure('sandbox.unreachable', 'The guest channel of the sandbox is not a socket.')
    return net.connect({ path: `/proc/self/fd/${descriptor}` })
  } catch (error) {
    const socket = new net.Socket()
    process.nextTick(() => socket.destroy(error instanceof Error ? error : new Error(String(error))))
    return socket
  } finally {
    // The kernel has connected by now.
    if (descriptor !== undefined) closeSync(descriptor)
  }
}

class ChannelAgent extends http.Agent {
  readonly #socketPath: string
  constructor(socketPath: string) {
    super({ keepAlive: true, maxSockets: maxConnections, timeout: idleConnectionMs })
    this.#socketPath = socketPath
  }
  override createConnection(): net.Socket {
    return connectSocket(this.#socketPath)
  }
}

const unreachable = (cause: unknown): Failure =>
  cause instanceof Failure
    ? cause
    : new Failure('sandbox.unreachable', 'The sandbox does not answer. Try again, or stop and resume it.', { cause, retryAfterMs: 1000 })

/** A promise whose failures are those of a sandbox that does not answer, also where its socket is gone before anything was asked. */
const orUnreachable = <Result>(work: ConstructorParameters<typeof Promise<Result>>[0]): Promise<Result> =>
  new Promise(work).catch((error: unknown) => {
    throw unreachable(error)
  })

const singleHeaders = (headers: http.IncomingHttpHeaders): Record<string, string | undefined> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]))

async function readText(body: Readable, limit = 64 * 1024 * 1024): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size > limit) throw new Failure('sandbox.unreachable', 'The sidecar answered more than fits in one answer.')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** The failure that a sidecar's refusal stands for. */
async function refusal(answer: GuestAnswer): Promise<Failure> {
  const text = await readText(answer.body, 1024 * 1024)
  let body: Partial<FailureBody> = {}
  try {
    body = JSON.parse(text)
  } catch (cause) {
    return new Failure('internal', `The sidecar answered ${answer.status} without a reason.`, { cause })
  }
  // A route that an older sidecar does not have is a missing feature, not a missing thing.
  if (body.code === 'route.not_found')
    return new Failure('sidecar.too_old', 'This sandbox was made with an older sidecar that cannot do this. Make a new one.')
  return new Failure(isFailureCode(body.code) ? body.code : 'internal', body.error ?? `The sidecar answered ${answer.status}.`)
}

class HttpGuest implements Guest {
  readonly #socketPath: string
  readonly #agent: ChannelAgent

  constructor(socketPath: string) {
    this.#socketPath = socketPath
    this.#agent = new ChannelAgent(socketPath)
  }

  async send(request: GuestRequest): Promise<GuestAnswer> {
    const answer = await this.#sendPatiently(request)
    if (answer.status >= 400) throw await refusal(answer)
    return answer
  }

  async #sendPatiently(request: GuestRequest): Promise<GuestAnswer> {
    try {
      return await this.#sendOnce(request)
    } catch (error) {
      // The sidecar may close an idle connection just when it is used; only a request that changes nothing is sent again.
      const mayRepeat =
        request.method === 'GET' && error instanceof Failure && (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ECONNRESET'
      if (!mayRepeat || request.signal?.aborted) throw error
      return this.#sendOnce(request)
    }
  }

  #sendOnce({ method, path, headers, body, signal }: GuestRequest): Promise<GuestAnswer> {
    const json = body === undefined || body instanceof Readable ? undefined : JSON.stringify(body)
    const options: http.RequestOptions = {
      agent: this.#agent,
      method,
      path,
      headers: { ...headers, ...(json !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(json) }) },
      ...(signal && { signal }),
    }
    return orUnreachable((resolve, reject) => {
      const request = http.request(options)
      request.once('error', reject)
      request.once('response', (response) =>
        resolve({ status: response.statusCode ?? 0, headers: singleHeaders(response.headers), body: response }),
      )
      if (body instanceof Readable) {
        // The answer may come before the whole body went out (a refused upload), so a broken pipe alone is no failure.
        body.once('error', (error) => request.destroy(error))
        body.once('close', () => body.readableEnded || request.destroy())
        body.pipe(request)
      } else request.end(json)
    })
  }

  async call<Answer>(request: GuestRequest): Promise<Answer> {
    const answer = await this.send(request)
    const text = await readText(answer.body).catch((error: unknown) => {
      throw unreachable(error)
    })
    return JSON.parse(text)
  }

  async connect(port: number, signal?: AbortSignal): Promise<net.Socket> {
    const { socket } = await this.upgrade(`/ports/${port}/connect`, { connection: 'Upgrade', upgrade: 'tcp' }, signal)
    return socket
  }

  upgrade(path: string, headers: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<Upgraded & { socket: net.Socket }> {
    return orUnreachable((resolve, reject) => {
      const request = http.request({ createConnection: () => connectSocket(this.#socketPath), path, headers, ...(signal && { signal }) })
      request.once('error', reject)
      request.once('response', (response) => {
        refusal({ status: response.statusCode ?? 0, headers: singleHeaders(response.headers), body: response }).then(reject, reject)
      })
      request.once('upgrade', (response, socket: net.Socket, head: Buffer) => {
        if (head.length > 0) socket.unshift(head)
        resolve({ socket, headers: singleHeaders(response.headers) })
      })
      request.end()
    })
  }

  async ready(deadlineMs: number, signal: AbortSignal): Promise<SidecarHealth> {
    const deadline = Date.now() + deadlineMs
    for (;;) {
      try {
        return await this.call<SidecarHealth>({
          method: 'GET',
          path: '/health',
          signal: AbortSignal.any([signal, AbortSignal.timeout(5000)]),
        })
      } catch (cause) {
        signal.throwIfAborted()
        if (Date.now() > deadline) {
          throw new Failure(
            'sandbox.start_failed',
            `The sandbox was started and its sidecar did not answer within ${deadlineMs / 1000} s.`,
            { cause },
          )
        }
      }
      await delay(4, undefined, { signal })
    }
  }

  async configure(environment: SidecarEnvironment): Promise<void> {
    await this.call({ method: 'PUT', path: '/environment', body: environment, signal: AbortSignal.timeout(10_000) })
  }

  close(): void {
    this.#agent.destroy()
  }
}

export const openHttpGuest = (socketPath: string): Guest => new HttpGuest(socketPath)
