// A harness that serves HTTP on loopback and tells what happens by server-sent events.
import http, { type IncomingMessage } from 'node:http'
import type { HarnessProcess } from '../harness.ts'
import { type Json, record } from './json.ts'

export interface Answer {
  readonly status: number
  /** The JSON of the body; empty when it is none. */
  readonly body: Json
}

/** Where a server says on standard output that it listens; rejects when it ends before. */
export async function listening(process: HarnessProcess, startMs: number): Promise<string> {
  // Loaded here, and not at the start of every sandbox.
  const { createInterface } = await import('node:readline')
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const lines = createInterface({ input: process.stdout })
  lines.on('line', (line) => {
    const url = /https?:\/\/[\w.:[\]]+/.exec(line)?.[0]
    if (url) resolve(url)
  })
  const timer = setTimeout(() => reject(new Error(`The server did not listen within ${startMs} ms.`)), startMs)
  void process.exit.then(() => reject(new Error('The server ended before it listened.')))
  return promise.finally(() => clearTimeout(timer))
}

export class LocalServer implements Disposable {
  readonly #url: string
  readonly #headers: Readonly<Record<string, string>>
  readonly #agent = new http.Agent({ keepAlive: true })

  /** `headers` go with every request. */
  constructor(url: string, headers: Readonly<Record<string, string>>) {
    this.#url = url
    this.#headers = headers
  }

  async call(method: string, path: string, body?: object): Promise<Answer> {
    const response = await this.#open(method, path, body)
    let text = ''
    for await (const chunk of response.setEncoding('utf8')) text += chunk
    return { status: response.statusCode ?? 0, body: parse(text) }
  }

  /** The events of a path, from when this resolves on. They end with the server, or with this. */
  async events(path: string): Promise<AsyncGenerator<Json>> {
    const response = await this.#open('GET', path)
    if (response.statusCode !== 200) throw new Error(`The server answered ${response.statusCode} to ${path}.`)
    return eventsOf(response)
  }

  #open(method: string, path: string, body?: object): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const headers = { ...this.#headers, ...(body && { 'content-type': 'application/json' }) }
    const request = http.request(new URL(path, this.#url), { method, headers, agent: this.#agent })
    request.once('response', resolve).on('error', reject)
    request.end(body && JSON.stringify(body))
    return promise
  }

  [Symbol.dispose](): void {
    this.#agent.destroy()
  }
}

async function* eventsOf(response: IncomingMessage): AsyncGenerator<Json> {
  const { createInterface } = await import('node:readline')
  try {
    for await (const line of createInterface({ input: response })) {
      if (line.startsWith('data:')) yield parse(line.slice('data:'.length))
    }
  } finally {
    response.destroy()
  }
}

function parse(text: string): Json {
  try {
    return record(JSON.parse(text))
  } catch {
    return {}
  }
}
