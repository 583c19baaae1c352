// A sandbox and its gateway, as tests of the gateway ask them.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { TestRuntime } from './runtimes.ts'
import { startOperator, type TestOperator } from './start-operator.ts'
import type { TestProvider } from './test-provider.ts'

export const realKey = `sk-real-${randomBytes(12).toString('hex')}`
export const smallSandbox = { memory_mb: 512, disk_gb: 1 }

/** An operator with a key of a provider that a test runs, and one sandbox. */
export class GatewaySubject implements AsyncDisposable {
  operator: TestOperator
  sandbox = ''
  readonly #provider: TestProvider

  constructor(operator: TestOperator, provider: TestProvider) {
    this.operator = operator
    this.#provider = provider
  }

  static async start(runtime: TestRuntime, provider: TestProvider, env: Record<string, string> = {}): Promise<GatewaySubject> {
    const subject = new GatewaySubject(
      await startOperator({ runtime, env: { ATOLL_TRUSTED_UPSTREAMS: provider.address, ...env } }),
      provider,
    )
    await subject.setKey('custom:mine', { like: 'openai' })
    subject.sandbox = await subject.operator.newSandbox(smallSandbox)
    return subject
  }

  async setKey(name: string, more: object, service = 'default'): Promise<void> {
    const body = { key: realKey, base_url: this.#provider.url, ...more }
    const { status, text } = await this.operator.call('PUT', `/api/services/${service}/provider-keys/${name}`, { body })
    assert.equal(status, 200, text)
  }

  async run(command: string, env: Record<string, string> = {}, sandbox = this.sandbox): Promise<string> {
    const { status, body, text } = await this.operator.call('POST', `/api/sandboxes/${sandbox}/exec`, {
      body: { command, env_json: JSON.stringify(env), timeout_ms: 60_000 },
    })
    assert.equal(status, 200, text)
    assert.equal(body.exit_code, 0, `${body.stdout}${body.stderr}`)
    return body.stdout
  }

  /** Runs a module in the sandbox; what it logs as its last line is the answer. */
  // biome-ignore lint/suspicious/noExplicitAny: each script answers something else
  async script(source: string, sandbox = this.sandbox): Promise<any> {
    const text = Buffer.from(source).toString('base64')
    const out = await this.run(`/opt/atoll/node --input-type=module -e "$(echo ${text} | base64 -d)"`, {}, sandbox)
    return JSON.parse(out.trim().split('\n').at(-1) ?? '')
  }

  /** One call from the sandbox. */
  ask(path: string, init = '{}', sandbox = this.sandbox) {
    return this.script(
      `const r = await fetch('http://127.0.0.1:7077' + ${JSON.stringify(path)}, ${init}); const text = await r.text()
       console.log(JSON.stringify({ status: r.status, headers: Object.fromEntries(r.headers), text }))`,
      sandbox,
    )
  }

  async usage(query: string, key?: string) {
    const { body } = await this.operator.call('GET', `/api/usage?${query}`, key === undefined ? {} : { key })
    return body.usage
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.operator[Symbol.asyncDispose]()
  }
}

/** The options of a `fetch` in the sandbox. */
export const post = (body: string, headers: object = {}): string =>
  `{ method: 'POST', headers: ${JSON.stringify({ 'content-type': 'application/json', ...headers })}, body: ${JSON.stringify(body)} }`
