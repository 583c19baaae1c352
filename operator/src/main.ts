// START HERE: read the settings, assemble, listen, stop gracefully.
import { toFailure } from '@atoll/protocol'
import { assemble } from './assemble.ts'
import { readConfig, unknownNames } from './config.ts'
import { createLog } from './telemetry/log.ts'

async function main(): Promise<void> {
  const config = readConfig()
  const log = createLog(config.logLevel)
  for (const name of unknownNames()) log.warn({ name }, 'no setting has this name, so it has no effect')
  const operator = await assemble(config, log)
  let isStopping = false
  const stop = (signal: string): void => {
    if (isStopping) process.exit(1) // Asked twice: the second time means at once.
    isStopping = true
    log.info({ signal }, 'stopping; sandboxes go on running')
    operator.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error({ err: error }, 'stopping failed')
        process.exit(1)
      },
    )
  }
  process.once('SIGTERM', () => stop('SIGTERM'))
  process.on('SIGINT', () => stop('SIGINT'))
  // npm start reads standard error itself and shows it to a person.
  await operator.start({ isPersonThere: process.stderr.isTTY || process.argv.includes('--sign-in-link') })
}

main().catch((error: unknown) => {
  const failure = toFailure(error)
  process.stderr.write(`atoll: ${failure.code === 'internal' ? String(failure.cause) : failure.message}\n`)
  process.exit(1)
})
