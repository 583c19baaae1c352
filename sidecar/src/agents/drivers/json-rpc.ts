// Requests and answers in both directions over a program's JSON lines.

import { count, type Json, record, text } from './json.ts'
import type { JsonLines } from './json-lines.ts'

/** The program refused a request of ours. */
export class RpcError extends Error {
  readonly code: number

  constructor(code: number, message: string) {
    super(message)
    this.name = 'RpcError'
    this.code = code
  }
}

export interface RpcHandlers {
  notified(method: string, params: Json): void
  /** Answers a request of the program; undefined refuses it. */
  requested(method: string, params: Json): Promise<object | undefined>
}

export class JsonRpc {
  readonly #program: JsonLines
  readonly #waiting = new Map<number, PromiseWithResolvers<Json>>()
  readonly #handlers: RpcHandlers
  readonly #envelope: object
  /** Resolves when the program has said its last. */
  readonly ended: Promise<void>
  #isEnded = false
  #lastId = 0

  /** @param envelope stands in every message of ours */
  constructor(program: JsonLines, handlers: RpcHandlers, envelope: object = {}) {
    this.#program = program
    this.#handlers = handlers
    this.#envelope = envelope
    this.ended = this.#listen()
  }

  async #listen(): Promise<void> {
    for await (const message of this.#program.messages()) this.#take(message)
    this.#isEnded = true
    for (const { reject } of this.#waiting.values()) reject(new RpcError(0, 'The program ended before it had answered.'))
  }

  #take(message: Json): void {
    const { id, method } = message
    if (typeof method === 'string' && id !== undefined) void this.#answer(id, method, record(message['params']))
    else if (typeof method === 'string') this.#handlers.notified(method, record(message['params']))
    else if (typeof id === 'number') this.#settle(id, message)
  }

  #settle(id: number, message: Json): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    const error = record(message['error'])
    if (message['error'] === undefined) waiting?.resolve(record(message['result']))
    else waiting?.reject(new RpcError(count(error['code']), text(error['message'])))
  }

  async #answer(id: unknown, method: string, params: Json): Promise<void> {
    const result = await this.#handlers.requested(method, params)
    if (result) this.#send({ id, result })
    else this.#send({ id, error: { code: -32_601, message: `Nobody answers ${method} here.` } })
  }

  /** @throws RpcError */
  request(method: string, params: object): Promise<Json> {
    if (this.#isEnded) return Promise.reject(new RpcError(0, 'The program has ended.'))
    this.#lastId += 1
    const waiting = Promise.withResolvers<Json>()
    this.#waiting.set(this.#lastId, waiting)
    this.#send({ id: this.#lastId, method, params })
    return waiting.promise
  }

  notify(method: string, params: object): void {
    this.#send({ method, params })
  }

  #send(message: object): void {
    this.#program.send({ ...this.#envelope, ...message })
  }
}
