// The end of a harness's process, and what it said on the way.
import { setTimeout as delay } from 'node:timers/promises'
import type { HarnessProcess } from '../harness.ts'

const politeMs = 2000
const urgentMs = 500
const tailLength = 4096

const hasEnded = async (process: HarnessProcess, withinMs: number): Promise<boolean> => {
  const waiting = new AbortController()
  const ended = await Promise.race([process.exit.then(() => true), delay(withinMs, false, { signal: waiting.signal }).catch(() => false)])
  waiting.abort()
  return ended
}

/** Lets a process end by the end of its input, then by signals. */
export async function endProcess(process: HarnessProcess, patienceMs = politeMs): Promise<void> {
  process.stdin.on('error', () => undefined)
  process.stdin.end()
  if (await hasEnded(process, patienceMs)) return
  process.signal('SIGTERM')
  if (await hasEnded(process, urgentMs)) return
  process.signal('SIGKILL')
  await hasEnded(process, urgentMs)
}

/** Reads standard error to its end and keeps its last part, for when the process has nothing else to say. */
export function tailOf(process: HarnessProcess): () => string {
  let tail = ''
  process.stderr.setEncoding('utf8').on('data', (text: string) => {
    tail = (tail + text).slice(-tailLength)
  })
  process.stderr.on('error', () => undefined)
  return () => tail.trim()
}
