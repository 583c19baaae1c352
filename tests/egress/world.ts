// The internet of a test: another network namespace, where one process answers for every address.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { authorityCertificate, newKeys } from '../../operator/src/gateway/egress/certificates.ts'
import type { Answer } from '../../operator/src/gateway/testing/dns-server.ts'

/** Addresses of the two ends. This machine's own one is a public one, as a server's may be. */
export const own = { four: '44.10.0.1', six: '2600:1f18::1' } as const
export const far = { four: '44.10.0.2', six: '2600:1f18::2' } as const

/** Somebody was reached: at which address and port, and by which name. */
export interface Reached {
  readonly address: string
  readonly port: number
  readonly name: string
  /** What was asked for; undefined: nothing yet. */
  readonly path?: string
}

const ip = (...args: readonly string[]): void => void execFileSync('ip', [...args], { stdio: ['ignore', 'ignore', 'inherit'] })

export class World implements AsyncDisposable {
  /** Settings of an operator that lives in it. */
  readonly settings: Readonly<Record<string, string>>
  readonly #child: ChildProcess
  readonly #rootFile: string

  private constructor(child: ChildProcess, rootFile: string) {
    this.#child = child
    this.#rootFile = rootFile
    this.settings = { ATOLL_DNS: `${far.four}:53`, NODE_EXTRA_CA_CERTS: rootFile }
  }

  /** To be called in a network that has nothing yet. */
  static async start(names: Readonly<Record<string, Answer>>): Promise<World> {
    const keys = newKeys()
    const hour = 3_600_000
    const validity = { notBefore: new Date(Date.now() - hour), notAfter: new Date(Date.now() + 24 * hour) }
    const authority = authorityCertificate({ name: 'The world', ...keys }, validity)
    const rootFile = path.join(os.tmpdir(), `atoll-world-${process.pid}.pem`)
    writeFileSync(rootFile, authority)
    const file = fileURLToPath(new URL('./world-process.ts', import.meta.url))
    const child = spawn('unshare', ['-n', process.execPath, file], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    await once(child, 'message')
    ip('link', 'set', 'lo', 'up')
    ip('link', 'add', 'world', 'type', 'veth', 'peer', 'name', 'out')
    ip('link', 'set', 'out', 'netns', String(child.pid))
    ip('address', 'add', `${own.four}/24`, 'dev', 'world')
    ip('-6', 'address', 'add', `${own.six}/64`, 'dev', 'world', 'nodad')
    ip('link', 'set', 'world', 'up')
    ip('route', 'add', 'default', 'via', far.four)
    const world = new World(child, rootFile)
    const key = keys.privateKey.export({ type: 'pkcs8', format: 'pem' })
    await world.#ask({ start: { names, key } })
    ip('-6', 'route', 'add', 'default', 'via', far.six)
    return world
  }

  /** Adds names or changes what they mean. A list of answers is given one after the other, the last one for good. */
  async setNames(names: Readonly<Record<string, Answer | { readonly turns: readonly Answer[] }>>): Promise<void> {
    await this.#ask({ names })
  }

  /** Who was reached since the last time. */
  async reached(): Promise<Reached[]> {
    // biome-ignore lint/suspicious/noExplicitAny: the answer of a process of ours
    return (await this.#ask({ reached: true })) as any
  }

  async #ask(message: object): Promise<unknown> {
    this.#child.send(message)
    const ended = once(this.#child, 'exit').then(([status]) => Promise.reject(new Error(`the world ended with ${status}`)))
    ended.catch(() => undefined)
    const [answer] = await Promise.race([once(this.#child, 'message'), ended])
    return answer.result
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL')
    rmSync(this.#rootFile, { force: true })
  }
}
