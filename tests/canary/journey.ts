// An operator that holds a secret of every kind, and what its users do with it, also what goes wrong.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { TestRuntime } from '../runtimes.ts'
import { startOperator, type TestOperator } from '../start-operator.ts'
import type { TestProvider } from '../test-provider.ts'
import { Needles } from './needles.ts'

/** Has what some encodings spell otherwise. */
const plantedValue = (): string => `${randomBytes(12).toString('hex')}+/"%=${randomBytes(12).toString('hex')}`
const plain = (): string => randomBytes(24).toString('hex')

/** Kinds of secrets that are put in from outside. */
const plant = () => ({
  providerKey: plantedValue(),
  oauthRefresh: plantedValue(),
  oauthAccess: plantedValue(),
  agentEnv: plain(),
  boundHeader: plantedValue(),
  userSecret: plantedValue(),
  envSecret: plantedValue(),
  execSecret: plantedValue(),
  terminalSecret: plain(),
  failedSecret: plantedValue(),
})

export const userKinds = ['userSecret', 'envSecret', 'execSecret', 'terminalSecret', 'failedSecret'] as const

interface Settings {
  readonly runtime: TestRuntime
  readonly env: Readonly<Record<string, string>>
}

const small = { memory_mb: 256, disk_gb: 1 }

export class CanarySubject implements AsyncDisposable {
  operator: TestOperator
  readonly needles = new Needles()
  readonly planted: ReturnType<typeof plant>
  readonly #settings: Settings
  readonly #provider: TestProvider
  /** The operator's owner's sandbox, which has all kinds of secrets, and one of somebody else. */
  own = ''
  other = ''
  annKey = ''
  /** What the sleeping process of each sandbox is found by. */
  readonly marks = [String(700_000_000 + Math.floor(Math.random() * 1e8)), String(800_000_000 + Math.floor(Math.random() * 1e8))] as const

  private constructor(operator: TestOperator, parts: { provider: TestProvider; settings: Settings; planted: ReturnType<typeof plant> }) {
    this.operator = operator
    this.#provider = parts.provider
    this.#settings = parts.settings
    this.planted = parts.planted
  }

  /** The operator of containers seals with a secret of its environment, the other one with its key file. */
  static async start(runtime: TestRuntime, provider: TestProvider): Promise<CanarySubject> {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'atoll-test-'))
    const agentsFile = path.join(folder, 'agents.env')
    const sessionSecret = plain()
    const env: Record<string, string> = {
      ATOLL_AGENT_ENV_FILE: agentsFile,
      ATOLL_TRUSTED_UPSTREAMS: provider.address,
      ATOLL_LOG: 'debug',
      SIDECAR_PULL_IMAGE: 'false',
      ...(runtime === 'docker' && { SESSION_AUTH_SECRET: sessionSecret }),
    }
    const planted = plant()
    writeFileSync(agentsFile, `AGENT_CANARY=${planted.agentEnv}\n`, { mode: 0o600 })
    const operator = await startOperator({ runtime, folder, env })
    const subject = new CanarySubject(operator, { provider, settings: { runtime, env }, planted })
    for (const [name, value] of Object.entries(planted)) subject.needles.add(name, value)
    if (runtime === 'docker') subject.needles.add('sessionSecret', sessionSecret)
    else subject.needles.add('sealingKey', JSON.parse(readFileSync(path.join(folder, 'state/keys.json'), 'utf8')).keys[0].key)
    subject.needles.add('adminKey', secretPart(operator.adminKey))
    return subject
  }

  call(method: string, target: string, body?: unknown, key = this.operator.adminKey) {
    return this.operator.call(method, target, { key, ...(body !== undefined && { body }) })
  }

  async #done(method: string, target: string, body?: unknown, key?: string) {
    const answer = await this.call(method, target, body, key)
    assert.ok(answer.status < 300, `${method} ${target}: ${answer.text}`)
    return answer.body
  }

  exec(command: string, id: string, key?: string): Promise<{ stdout: string }> {
    return this.#done('POST', `/api/sandboxes/${id}/exec`, { command, timeout_ms: 30_000 }, key)
  }

  /** Sign-in, keys and providers. */
  async setUp(): Promise<void> {
    const code = await this.#signInCode()
    this.needles.add('signInCode', code)
    const { token } = await this.#done('POST', '/api/auth/link', { code })
    this.needles.add('sessionToken', token.slice('v4.local.'.length))
    await this.#done('GET', '/api/sandboxes', undefined, token)
    this.annKey = await this.operator.newKey('ann')
    this.needles.add('apiKey', secretPart(this.annKey))
    const { providerKey, oauthRefresh, oauthAccess } = this.planted
    const keys = '/api/services/default/provider-keys'
    const at = { base_url: this.#provider.url, like: 'openai' }
    await this.#done('PUT', `${keys}/anthropic`, { key: providerKey })
    await this.#done('PUT', `${keys}/custom:mine`, { key: providerKey, ...at })
    const oauth = {
      refresh_token: oauthRefresh,
      token_url: `${this.#provider.url}/token`,
      client_id: 'client-1',
      access_token: oauthAccess,
    }
    await this.#done('PUT', `${keys}/custom:plan`, { oauth: { ...oauth, expires_at: Math.floor(Date.now() / 1000) + 3600 }, ...at })
  }

  /** It is printed a moment after the operator listens. */
  async #signInCode(): Promise<string> {
    for (let tries = 0; tries < 200; tries += 1) {
      const log = readFileSync(path.join(this.operator.folder, 'operator.log'), 'utf8')
      const code = /#code=([\w-]+)\n/.exec(log)?.[1]
      if (code !== undefined) return code
      await delay(20)
    }
    throw new Error('the operator printed no sign-in link')
  }

  /** Everything that works, in two sandboxes. */
  async journey(): Promise<void> {
    const { userSecret, envSecret, execSecret, terminalSecret, boundHeader } = this.planted
    this.own = (
      await this.#done('POST', '/api/sandboxes', { ...small, env_json: { ENV_SECRET: envSecret }, metadata_json: { ports: [8080] } })
    ).id
    this.other = (await this.#done('POST', '/api/sandboxes', small, this.annKey)).id
    const at = `/api/sandboxes/${this.own}`
    await this.#done('POST', `${at}/secrets`, { env_json: { USER_SECRET: userSecret } })
    await this.#done('GET', `${at}/secrets`)
    await this.#done('POST', `${at}/exec`, { command: 'test -n "$EXEC_SECRET"', env_json: { EXEC_SECRET: execSecret } })
    await this.#done('PUT', `${at}/files/content?path=note.txt`, 'nothing in it')
    await this.#done('GET', `${at}/files?path=.`)
    const { session_id: terminal } = await this.#done('POST', `${at}/live/terminal/sessions`, {
      env_json: { TERMINAL_SECRET: terminalSecret },
    })
    await this.#done('POST', `${at}/live/terminal/sessions/${terminal}/input`, { data: 'test -n "$TERMINAL_SECRET" && echo there\r' })
    const { token } = await this.#done('POST', `${at}/ports/8080/preview`, {})
    this.needles.add('previewToken', token.split('.')[1])
    await this.operator.call('GET', `${at}/port/8080/?atoll_token=${token}`, { key: undefined })
    const binding = { host: 'api.example.com', header: 'x-token', value: boundHeader }
    await this.#done('PUT', `${at}/egress/bindings`, { bindings: [binding] })
    await this.#done('GET', `${at}/egress/bindings`)
    await this.models()
    await this.agent()
    await this.#done('POST', `${at}/snapshots`, { name: 'with secrets in memory' })
  }

  /** The provider gets the real keys from the gateway, for a program that has none. */
  async models(): Promise<void> {
    const before = this.#provider.seen.length
    const ask = (name: string) =>
      `await fetch('http://127.0.0.1:7077/${name}/chat/completions', { method: 'POST', body: '{}' }).then((r) => r.text())`
    await this.exec(`/opt/atoll/node --input-type=module -e "${ask('custom:mine')}; ${ask('custom:plan')}; ${ask('nobody')}"`, this.own)
    const shown = this.#provider.seen.slice(before).map(({ headers }) => headers.authorization)
    const { providerKey, oauthAccess } = this.planted
    assert.deepEqual(shown, [`Bearer ${providerKey}`, `Bearer ${oauthAccess}`])
  }

  /** An agent that shows all that it has in its environment: what runs tell has no secret in it. */
  async agent(): Promise<void> {
    const at = `/api/sandboxes/${this.own}/agents/runs`
    const { id } = await this.#done('POST', at, { harness: 'echo', prompt: '[[shell:env; env >&2]] [[write:seen.txt|by the agent]] done' })
    const events = await (await this.operator.fetch('GET', `${at}/${id}/events?cursor=0`)).text()
    assert.match(events, /run\.finished/)
    // It did show them.
    assert.match(events, /USER_SECRET=/)
  }

  /** What is wrong is refused, and what is in it is told to nobody. */
  async errors(): Promise<void> {
    const { failedSecret, providerKey } = this.planted
    const at = `/api/sandboxes/${this.own}`
    const refused: [string, string, unknown][] = [
      ['POST', `${at}/secrets`, `{"env_json":{"A":"${encodeURIComponent(failedSecret)}"`],
      ['POST', `${at}/secrets`, { env_json: { 'not a name': failedSecret } }],
      ['POST', '/api/sandboxes', { ...small, image: 'nobody/has-this:1', env_json: { FAILED: failedSecret }, runtime: 'docker' }],
      ['POST', '/api/sandboxes', { ...small, memory_mb: 1e9, env_json: { FAILED: failedSecret } }],
      ['POST', `${at}/exec`, { argv: ['/no/such/program'], env_json: { FAILED: failedSecret } }],
      ['POST', `${at}/processes`, { argv: ['/no/such/program'], env_json: { FAILED: failedSecret } }],
      ['PUT', '/api/services/default/provider-keys/nobody', { key: providerKey }],
      ['PUT', '/api/services/999/provider-keys/openai', { key: providerKey }],
      ['PUT', '/api/services/default/provider-keys/openai', { key: providerKey, base_url: 'https://example.com' }],
      ['POST', '/api/auth/link', { code: failedSecret }],
      ['GET', `/api/nothing?key=${this.annKey}`, undefined],
      ['GET', `/api/sandboxes?cursor=${encodeURIComponent(failedSecret)}`, undefined],
    ]
    for (const [method, target, body] of refused) await this.call(method, target, body)
    const broken = [`Basic ${this.annKey}`, `Bearer ${this.annKey.slice(0, -1)}`, `Bearer v4.local.${failedSecret.replaceAll('"', '')}`]
    for (const authorization of broken) await this.operator.call('GET', '/api/sandboxes', { key: undefined, headers: { authorization } })
  }

  /** A pause, a stop and their resumes, and the operator killed and started again. */
  async interrupt(): Promise<void> {
    for (const step of ['pause', 'resume', 'stop', 'resume']) await this.#done('POST', `/api/sandboxes/${this.own}/${step}`, {})
    await this.operator.kill()
    this.operator = await startOperator({ ...this.#settings, folder: this.operator.folder })
    await this.models()
    await this.#done('POST', `/api/sandboxes/${this.own}/processes`, { argv: ['sleep', this.marks[0]] })
    await this.#done('POST', `/api/sandboxes/${this.other}/processes`, { argv: ['sleep', this.marks[1]] }, this.annKey)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.operator[Symbol.asyncDispose]()
  }
}

/** Of an API key what no other has. */
const secretPart = (key: string): string => key.split('_').slice(2).join('_')
