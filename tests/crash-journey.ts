// An operator that is killed in the middle of its work, started again, and looked at.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { FaultPoint } from '../operator/src/sandboxes/faults.ts'
import { leftOver } from './crash-footprint.ts'
import type { TestRuntime } from './runtimes.ts'
import { type Answer, startOperator, type TestOperator } from './start-operator.ts'

const small = { memory_mb: 256, disk_gb: 1 }

/** The first part of a point's name says which operation comes by it. */
export const operations = ['create', 'start', 'pause', 'unpause', 'secrets', 'stop', 'resume', 'delete'] as const
export type Operation = (typeof operations)[number]

/** Where the operator dies: at a named point, or so many milliseconds after it was asked. */
export type Death = { readonly point: FaultPoint } | { readonly afterMs: number; readonly operation: Operation }

export const operationOf = (death: Death): Operation => {
  if ('operation' in death) return death.operation
  const found = operations.find((name) => death.point.startsWith(`${name}.`))
  assert.ok(found, death.point)
  return found
}

const makesIts = (operation: Operation): boolean => operation === 'create' || operation === 'start'

export class CrashJourney implements AsyncDisposable {
  #operator: TestOperator
  readonly #runtime: TestRuntime

  private constructor(operator: TestOperator, runtime: TestRuntime) {
    this.#operator = operator
    this.#runtime = runtime
  }

  static async start(runtime: TestRuntime): Promise<CrashJourney> {
    return new CrashJourney(await startOperator({ runtime }), runtime)
  }

  /** One death, and everything that must hold after it; then there is nothing again. */
  async cycle(death: Death): Promise<void> {
    const operation = operationOf(death)
    const id = makesIts(operation) ? '' : await this.#prepared(operation)
    const again = await this.#die(death, operation, id)
    const mine = id === '' ? again.body.id : id
    const { body } = await this.#call('GET', '/api/sandboxes?state=creating,running,paused,stopped,deleting')
    const listed = body.sandboxes.map((one: { id: string }) => one.id)
    assert.deepEqual(listed, operation === 'delete' ? [] : [mine], 'the records do not tell the truth')
    if (operation !== 'delete') await this.#assertUsable(mine, id === '' ? 'fresh' : 'kept')
    if (operation === 'secrets') assert.equal(await this.#run(mine, 'echo $GIVEN'), 'anew')
    await this.#call('DELETE', `/api/sandboxes/${mine}`)
    await this.#assertNothingLeft()
  }

  /** A sandbox as the operation needs it, with a file in it. */
  async #prepared(operation: Operation): Promise<string> {
    const id = await this.#operator.newSandbox(small)
    await this.#run(id, 'echo kept > file; sync')
    if (operation === 'unpause') await this.#call('POST', `/api/sandboxes/${id}/pause`)
    if (operation === 'resume') await this.#call('POST', `/api/sandboxes/${id}/stop`)
    return id
  }

  /** Answers what a client gets that had no answer and asks again. */
  async #die(death: Death, operation: Operation, id: string): Promise<Answer> {
    const key = randomUUID()
    if ('point' in death) {
      await this.#operator.stop()
      await this.#restart(death.point)
      await assert.rejects(this.#ask(operation, id, key), 'the operator lived')
    } else {
      const asked = this.#ask(operation, id, key).catch(() => undefined)
      await delay(death.afterMs)
      await this.#operator.kill()
      await asked
    }
    await this.#operator.kill()
    await this.#restart()
    const again = await this.#ask(operation, id, key)
    assert.ok(again.status < 300 || (operation === 'delete' && again.status === 404), `asked again: ${again.status} ${again.text}`)
    return again
  }

  async #restart(fault?: FaultPoint): Promise<void> {
    const env = fault ? { ATOLL_FAULT: fault } : {}
    this.#operator = await startOperator({ runtime: this.#runtime, folder: this.#operator.folder, env })
  }

  /** What a client asks for; under its key, where that is how it may ask again. */
  #ask(operation: Operation, id: string, key: string): Promise<Answer> {
    const target = `/api/sandboxes/${id}`
    if (makesIts(operation)) return this.#call('POST', '/api/sandboxes', small, { 'idempotency-key': key })
    if (operation === 'delete') return this.#call('DELETE', target)
    if (operation === 'secrets') return this.#call('POST', `${target}/secrets`, { env_json: { GIVEN: 'anew' } })
    return this.#call('POST', `${target}/${operation === 'unpause' ? 'resume' : operation}`)
  }

  async #assertUsable(id: string, file: string): Promise<void> {
    const { body } = await this.#call('GET', `/api/sandboxes/${id}`)
    assert.ok(['running', 'paused', 'stopped'].includes(body.status), body.status)
    if (body.status !== 'running') assert.equal((await this.#call('POST', `/api/sandboxes/${id}/resume`)).status, 200)
    assert.equal(await this.#run(id, 'cat file 2>/dev/null || echo fresh'), file)
  }

  async #assertNothingLeft(): Promise<void> {
    // A probe of the operator's own may be under way, and what it keeps ready may be being made.
    let left = leftOver(this.#operator.folder)
    for (let tries = 0; left.length > 0 && tries < 100; tries += 1) {
      await delay(50)
      left = leftOver(this.#operator.folder)
    }
    assert.deepEqual(left, [], 'something was left')
  }

  #call(method: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<Answer> {
    return this.#operator.call(method, path, { ...(body && { body }), headers })
  }

  async #run(id: string, command: string): Promise<string> {
    const { status, body, text } = await this.#call('POST', `/api/sandboxes/${id}/exec`, { command })
    assert.equal(status, 200, text)
    assert.equal(body.exit_code, 0, body.stderr)
    return body.stdout.trim()
  }

  /** After a cycle that has failed: there is an operator again, and nothing of the cycle. */
  async recover(): Promise<void> {
    await this.#operator.kill()
    await this.#restart()
    const { body } = await this.#call('GET', '/api/sandboxes?state=creating,running,paused,stopped,deleting,ended')
    for (const { id } of body.sandboxes) await this.#call('DELETE', `/api/sandboxes/${id}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#operator[Symbol.asyncDispose]()
  }
}
