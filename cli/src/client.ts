// Which operator a command talks to, with which key.
import { readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { Atoll, Failure } from '@atoll/sdk'

export interface GlobalOptions {
  readonly url?: string
  readonly key?: string
  readonly json?: boolean
}

/** Where an operator on this machine keeps its state when nothing else was said. */
export const stateDir = (): string =>
  process.env['ATOLL_STATE_DIR'] ||
  process.env['BLUEPRINT_STATE_DIR'] ||
  (process.getuid?.() === 0 ? '/var/lib/atoll' : path.join(os.homedir(), '.local/state/atoll'))

export function connect({ url, key }: GlobalOptions): Atoll {
  const atoll = new Atoll({ url })
  const apiKey = key || process.env['ATOLL_API_KEY'] || localKey(atoll.url)
  return new Atoll({ url, apiKey })
}

/** The admin key of an operator on this machine. It is never sent to another one. */
function localKey(url: string): string | undefined {
  if (!URL.canParse(url)) throw new Failure('config.invalid', `"${url}" is no address. Write one such as http://127.0.0.1:9090.`)
  if (!['127.0.0.1', 'localhost', '[::1]'].includes(new URL(url).hostname)) return undefined
  try {
    return readFileSync(path.join(stateDir(), 'admin-key'), 'utf8').trim()
  } catch {
    return undefined // No operator has started here, or it is another user's; the operator then says that a key is missing.
  }
}
