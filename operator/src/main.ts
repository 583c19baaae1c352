// START HERE: read the settings, assemble, listen, stop gracefully.
import { toFailure } from '@atoll/protocol'
import { assemble } from './assemble.ts'
import { readConfig, unknownNames } from './config.ts'
import { closeInheritedDescriptors } from './host/inherited-descriptors.ts'
import { armFault } from './sandboxes/faults.ts'
import { createLog } from './telemetry/log.ts'

async function main(): Promise<void> {
  closeInheritedDescriptors()
  const config = readConfig()
  const log = createLog(config.logLevel)
  armFault(config.fault)
  for (const name of unknownNames()) log.warn({ name }, 'no setting has this name, so it has no effect')
  const { promise: asked, resolve: ask } = Promise.withResolvers<string>()
  let isAsked = false
  const onSignal = (signal: string): void => {
    if (isAsked) process.exit(1) // Asked twice: the second time means at once.
    isAsked = true
    ask(signal)
  }
  process.once('SIGTERM', () => onSignal('SIGTERM'))
  process.on('SIGINT', () => onSignal('SIGINT'))
  const operator = await assemble(config, log)
  // npm start reads standard error itself and shows it to a person.
  if (!isAsked) await operator.start({ isPersonThere: process.stderr.isTTY || process.argv.includes('--sign-in-link') })
  // One that is asked while it starts gets there first: what it has begun is then known, and can be undone.
  log.info({ signal: await asked }, 'stopping; sandboxes go on running')
  await operator.stop().catch((error: unknown) => {
    log.error({ err: error }, 'stopping failed')
    process.exit(1)
  })
  process.exit(0)
}

main().catch((error: unknown) => {
  const failure = toFailure(error)
  process.stderr.write(`atoll: ${failure.code === 'internal' ? String(failure.cause) : failure.message}\n`)
  process.exit(1)
})
