// The daemon inside a sandbox: the operator's only hands in there.
import { writeSync } from 'node:fs'
import { type Config, readConfig } from './config.ts'
import { createLog, describe, type Log } from './log.ts'
import { startSidecar } from './sidecar.ts'

/** The sidecar changes identity for each process it starts, so it must have one to give up. */
function dropGroups(config: Config): void {
  if (process.getuid?.() !== 0) throw new Error('The sidecar must run as uid 0 of its sandbox.')
  // What node-pty starts inherits these. The user's own group lets the sidecar enter directories that only the group may enter.
  process.setgroups?.([config.user.gid])
}

async function main(log: Log): Promise<void> {
  const config = readConfig()
  // Whoever started this may have had another, and everything that is started here inherits it.
  process.umask(0o022)
  if (process.argv[2] === '--files') {
    // Loaded only where it runs, so that it costs the start of a sandbox nothing.
    const { startFileWorker } = await import('./files/worker.ts')
    await startFileWorker(config, log, process.argv[3] ?? '')
    return
  }
  if (process.argv[2] === '--history') {
    const { startHistory } = await import('./history.ts')
    await startHistory({ config, log, socketPath: process.argv[3] ?? '', uid: Number(process.argv[4]) })
    return
  }
  dropGroups(config)
  const sidecar = await startSidecar(config, log)
  process.once('SIGTERM', () => {
    void sidecar.close().finally(() => process.exit(0))
  })
}

const log = createLog((line) => writeSync(1, line))
process.on('uncaughtException', (error) => log('error', 'uncaught exception', describe(error)))
process.on('unhandledRejection', (error) => log('error', 'unhandled rejection', describe(error)))
main(log).catch((error: unknown) => {
  log('error', 'the sidecar could not start', describe(error))
  process.exit(1)
})
