// Progress for people: what is being done, and how long it took when that is over a second. All on standard error.
import { Interrupted } from './interrupt.mjs'

/** Runs a step and says that it runs once it takes over a second. */
export async function step(what, work) {
  const startedAt = Date.now()
  let isSaid = false
  const timer = setTimeout(() => {
    isSaid = true
    process.stderr.write(`… ${what}\n`)
  }, 1000)
  try {
    return await work()
  } finally {
    clearTimeout(timer)
    if (isSaid) process.stderr.write(`  ${what}: ${((Date.now() - startedAt) / 1000).toFixed(1)} s\n`)
  }
}

/** A failure that its message explains in full: printed without a stack. */
export class Refusal extends Error {}

const isExplained = (error) => error instanceof Refusal || error instanceof Interrupted

/** What a person is told of a failure. */
export const explain = (error) => (isExplained(error) ? error.message : (error.stack ?? String(error)))

/** The status that a program ends with after a failure. */
export const statusOf = (error) => (error instanceof Interrupted ? error.status : 1)

/** Runs a program's main function; a failure is one clear sentence and status 1. */
export function run(main) {
  main().catch((error) => {
    process.stderr.write(`${explain(error)}\n`)
    process.exitCode = statusOf(error)
  })
}
