// A sandbox, its gateway's socket, and the world behind it, as tests of the way out ask them.
import assert from 'node:assert/strict'
import net, { type Socket } from 'node:net'
import path from 'node:path'
import type { EgressPolicyInput } from '@atoll/protocol'
import type { Answer } from '../../operator/src/gateway/testing/dns-server.ts'
import type { TestRuntime } from '../runtimes.ts'
import { startOperator, type TestOperator } from '../start-operator.ts'
import { World } from './world.ts'

export interface Said {
  readonly status: number
  readonly reason: string
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
}

export interface DeniedEvent {
  readonly reason: string
  readonly host: string
  readonly port?: number
  readonly method?: string
  readonly path?: string
  readonly allow?: object
  readonly repeated?: number
  readonly untold?: number
}

/** An answer as it stands on the wire; status 0 when there is none. */
export function parseAnswer(text: string): Said {
  const end = text.indexOf('\r\n\r\n')
  const [first = '', ...lines] = text.slice(0, Math.max(end, 0)).split('\r\n')
  const [, status = '0', reason = ''] = /^HTTP\/1\.1 (\d{3}) ?(.*)$/.exec(first) ?? []
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]),
  )
  return { status: Number(status), reason, headers, text: text.slice(end + 4) }
}

export class EgressSubject implements AsyncDisposable {
  readonly world: World
  operator: TestOperator
  readonly sandbox: string

  private constructor(parts: { world: World; operator: TestOperator; sandbox: string }) {
    this.world = parts.world
    this.operator = parts.operator
    this.sandbox = parts.sandbox
  }

  static async start(runtime: TestRuntime, names: Readonly<Record<string, Answer>>): Promise<EgressSubject> {
    const world = await World.start(names)
    try {
      const operator = await startOperator({ runtime, env: world.settings })
      return new EgressSubject({ world, operator, sandbox: await operator.newSandbox({ memory_mb: 512 }) })
    } catch (error) {
      await world[Symbol.asyncDispose]()
      throw error
    }
  }

  newSandbox(): Promise<string> {
    return this.operator.newSandbox({ memory_mb: 256 })
  }

  async allow(policy: EgressPolicyInput, sandbox = this.sandbox): Promise<void> {
    const { status, text } = await this.operator.call('PUT', `/api/sandboxes/${sandbox}/egress`, { body: policy })
    assert.equal(status, 200, text)
  }

  /** A connection as one from inside the sandbox, which is led here byte for byte. */
  open(sandbox = this.sandbox): Socket {
    const socket = net.connect({ path: path.join(this.operator.folder, 'run', sandbox, 'gateway.sock'), allowHalfOpen: true })
    return socket.on('error', () => socket.destroy())
  }

  /** Sends bytes and reads until the other side ends, or is silent for a while after it has said something. */
  async send(bytes: string | Buffer, sandbox = this.sandbox): Promise<Said> {
    const socket = this.open(sandbox)
    socket.write(bytes, 'latin1')
    return parseAnswer(await readAll(socket))
  }

  /** A tunnel, or what was said instead. */
  async tunnel(target: string, sandbox = this.sandbox): Promise<{ readonly socket: Socket; readonly said: Said }> {
    const socket = this.open(sandbox)
    socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`)
    const said = parseAnswer(await readHead(socket))
    return { socket, said }
  }

  /** Numbers of events so far, to look at later ones. */
  async cursor(sandbox = this.sandbox): Promise<number> {
    let cursor = 0
    for (;;) {
      const { body } = await this.operator.call('GET', `/api/sandboxes/${sandbox}/events?limit=1000&cursor=${cursor}`)
      if (body.events.length === 0) return cursor
      cursor = body.next_cursor
    }
  }

  async denials(cursor: number, sandbox = this.sandbox): Promise<DeniedEvent[]> {
    const { body } = await this.operator.call('GET', `/api/sandboxes/${sandbox}/events?limit=1000&cursor=${cursor}`)
    return body.events.filter(({ type }: { type: string }) => type === 'egress.denied').map(({ data }: { data: DeniedEvent }) => data)
  }

  /** Runs a command in the sandbox. */
  async run(command: string, sandbox = this.sandbox): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
    const { status, body, text } = await this.operator.call('POST', `/api/sandboxes/${sandbox}/exec`, {
      body: { command, timeout_ms: 90_000 },
    })
    assert.equal(status, 200, text)
    return { code: body.exit_code, out: body.stdout, err: body.stderr }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.operator[Symbol.asyncDispose]()
    await this.world[Symbol.asyncDispose]()
  }
}

const silenceMs = 2500

/** Everything until the end, or until nothing came for a while. */
export function readAll(socket: Socket, patienceMs = silenceMs): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    const done = (): void => {
      socket.destroy()
      resolve(text)
    }
    socket.setTimeout(patienceMs, done)
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
    })
    socket.once('end', done).once('close', done)
  })
}

/** The head of an answer, and its body when it is short; what follows is left to whoever reads on. */
function readHead(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    const stop = (): void => {
      socket.off('readable', more).off('close', stop).off('end', stop)
      resolve(text)
    }
    const more = (): void => {
      for (let chunk: Buffer | null = socket.read(); chunk !== null; chunk = socket.read()) {
        text += chunk.toString('latin1')
        const end = text.indexOf('\r\n\r\n')
        const length = Number(/^content-length: (\d+)/im.exec(text)?.[1] ?? 0)
        if (end < 0 || text.length < end + 4 + length) continue
        stop()
        return
      }
    }
    socket.on('readable', more).once('close', stop).once('end', stop)
  })
}
