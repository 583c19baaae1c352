// What agents did in a sandbox that is stopped, read from the folder that its sidecar left. The operator starts it outside of the sandbox,
// so it trusts nothing in the folder, and gives up every right before it looks at it.
import { Records } from './agents/records.ts'
import { recordRoutes } from './agents/routes.ts'
import type { Config } from './config.ts'
import type { Log } from './log.ts'
import { createServer, listen } from './server.ts'

export interface HistoryOptions {
  readonly config: Config
  readonly log: Log
  readonly socketPath: string
  /** User and group that it becomes: nobody else's, who reads what everybody may and can write nothing. */
  readonly uid: number
}

function giveUpRights(uid: number): void {
  if (!Number.isInteger(uid) || uid < 1) throw new Error('A history is read by a user of its own.')
  process.setgroups?.([])
  process.setgid?.(uid)
  process.setuid?.(uid)
}

/**
 * Serves the routes of what there is to look at. The folder of the conversations is the working folder: the way to it is closed to the user
 * that this becomes. It ends with its standard input, which the operator holds.
 */
export async function startHistory({ config: { limits }, log, socketPath, uid }: HistoryOptions): Promise<void> {
  const records = new Records({ directory: '.', runLogBytes: limits.runLogBytes, log, isReadOnly: true })
  const routes = { 'GET /health': () => ({ status: 'ok' }), ...recordRoutes(records, limits) }
  await listen(createServer({ routes, upgrades: {}, log }), socketPath, 0o600)
  giveUpRights(uid)
  process.stdin.once('close', () => process.exit(0)).resume()
  records.load()
}
