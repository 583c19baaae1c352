// Ctrl-C and its like: what is under way is stopped or finished in an orderly way, so that nothing half-made stays behind.
import { constants } from 'node:os'

const names = ['SIGINT', 'SIGTERM', 'SIGHUP']
/** One Ctrl-C comes from the terminal and again from npm. */
const sameKeyMs = 500

/** The reason of `interruption`. */
export class Interrupted extends Error {
  constructor(name) {
    super(`Interrupted by ${name}.`)
    this.status = 128 + constants.signals[name]
  }
}

const first = new AbortController()
const second = new AbortController()
/** Aborts when this process is asked to end. */
export const interruption = first.signal
/** Aborts when it is asked again. */
export const impatience = second.signal
let askedAt = 0

function onSignal(name) {
  if (Date.now() - askedAt < sameKeyMs) return
  askedAt = Date.now()
  if (first.signal.aborted) second.abort()
  else first.abort(new Interrupted(name))
}

/** While the work runs, signals abort `interruption` instead of ending this process. It is for the work to heed that. */
export async function withSignals(work) {
  for (const name of names) process.on(name, onSignal)
  try {
    return await work()
  } finally {
    for (const name of names) process.off(name, onSignal)
  }
}
