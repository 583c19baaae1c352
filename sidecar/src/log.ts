/** Writes one JSON line about what the sidecar itself did; what users run and see never goes in here. */
export type Log = (level: 'info' | 'warn' | 'error', message: string, details?: object) => void

export const createLog =
  (write: (line: string) => void, now: () => number = Date.now): Log =>
  (level, message, details = {}) =>
    write(`${JSON.stringify({ time: now(), level, message, ...details })}\n`)

/** What may be logged of anything thrown. */
export const describe = (thrown: unknown): object =>
  thrown instanceof Error ? { error: thrown.message, stack: thrown.stack } : { error: String(thrown) }
