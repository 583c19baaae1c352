// The packages from npm, and the pinned Node among them.

import { createHash } from 'node:crypto'
import { accessSync, constants, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { guarded } from './command.mjs'
import { Interrupted } from './interrupt.mjs'
import { Refusal, step } from './say.mjs'

export const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

const stamp = path.join(root, 'node_modules/.atoll-installed')
const node24 = path.join(root, 'node_modules/node/bin/node')

/** The pinned Node, on which everything runs. */
export const node24Path = () => node24

const fingerprint = () =>
  createHash('sha256')
    .update(readFileSync(path.join(root, 'package-lock.json')))
    .digest('hex')

/** What was installed for this lock file: `prod`, `dev`, or undefined. */
function installed() {
  if (!existsSync(stamp) || !existsSync(node24)) return undefined
  const [hash, kind] = readFileSync(stamp, 'utf8').trim().split(' ')
  return hash === fingerprint() ? kind : undefined
}

/**
 * Not `npm ci`: it wants a lock that names the optional packages of every platform. A Ctrl-C leaves no half of a new folder; an older one is
 * completed the next time.
 * @param {{ dev?: boolean, install?: boolean }} [options] `dev`: also what checks and tests need
 */
export async function ensureNodeModules({ dev = false, install = true } = {}) {
  const kind = installed()
  if (kind === 'dev' || (kind === 'prod' && !dev)) return
  const args = ['install', '--no-audit', '--no-fund', '--no-save', ...(dev ? [] : ['--omit=dev'])]
  if (!install) throw new Refusal(`The packages from npm are not installed. Type:\n  npm ${args.join(' ')}`)
  const folder = path.join(root, 'node_modules')
  const isNew = !existsSync(folder)
  assertWritable(isNew ? root : folder)
  rmSync(stamp, { force: true })
  try {
    await step('installing packages from npm', () => installModules(args))
  } catch (error) {
    if (isNew && error instanceof Interrupted) rmSync(folder, { recursive: true, force: true })
    throw error
  }
  writeFileSync(stamp, `${fingerprint()} ${dev ? 'dev' : 'prod'}\n`)
}

function assertWritable(folder) {
  try {
    accessSync(folder, constants.W_OK)
  } catch {
    throw new Refusal(
      `Packages from npm belong into ${folder}, which you may not write to. Start as its owner, or from a clone of your own.`,
    )
  }
}

async function installModules(args) {
  const { status, output } = await guarded('npm', args, { cwd: root, env: { npm_config_update_notifier: 'false' }, onInterrupt: 'stop' })
  if (status !== 0) throw new Refusal(`npm could not install the packages:\n${output.slice(-1500)}`)
  if (!existsSync(node24)) throw new Refusal(`npm installed no Node 24 at ${node24}. Remove node_modules and try again.`)
}
