// The sidecar may be protected from the kernel's out-of-memory killer; what it starts must not be.
import { readFileSync, writeFileSync } from 'node:fs'

const scoreFile = '/proc/self/oom_score_adj'

/** Runs a synchronous spawn so that the child starts unprotected. */
export type Unprotected = <Result>(spawn: () => Result) => Result

/** A sandbox that does not let the sidecar have its score back leaves it unprotected, which is better than not starting anything. */
function protect(file: string, score: number): void {
  try {
    writeFileSync(file, String(score))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EACCES')) throw error
  }
}

/**
 * A child inherits the score at the moment of its fork, so the sidecar gives its own up for just that moment. The kernel lets it
 * take back what a privileged process set before.
 */
export function createUnprotected(file = scoreFile): Unprotected {
  const score = Number(readFileSync(file, 'utf8').trim())
  if (score >= 0) return (spawn) => spawn()
  return (spawn) => {
    writeFileSync(file, '0')
    try {
      return spawn()
    } finally {
      protect(file, score)
    }
  }
}
