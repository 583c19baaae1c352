// Progress for people: what is being done, and how long it took when that is over a second. All on standard error.

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

/** Runs a program's main function; a failure is one clear sentence and status 1. */
export function run(main) {
  main().catch((error) => {
    process.stderr.write(error instanceof Refusal ? `${error.message}\n` : `${error.stack ?? error}\n`)
    process.exitCode = 1
  })
}
