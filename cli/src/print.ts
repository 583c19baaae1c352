// What the command writes: results on standard output, everything else on standard error.
import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { ConnectionFailure, Failure } from '@atoll/sdk'

export const printJson = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`)

export const print = (text: string): void => void process.stdout.write(`${text}\n`)

/** For people who watch; never part of a result. */
export const note = (text: string): void => void process.stderr.write(`${text}\n`)

/** Writes at the reader's pace. */
export async function writeTo(stream: Writable, bytes: Uint8Array | string): Promise<void> {
  if (!stream.write(bytes)) await once(stream, 'drain')
}

/** Columns under one another, the last one as long as it likes. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  const line = (row: readonly string[]): string => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')
  return all.map((row) => line(row).trimEnd()).join('\n')
}

/** `3m`, `2h`: how long ago a time in unix seconds was. */
export function age(since: number, nowMs = Date.now()): string {
  const seconds = Math.max(0, Math.floor(nowMs / 1000 - since))
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`
}

/** One line for people, `{error, code}` for programs. */
export function printFailure(error: unknown, asJson: boolean): void {
  const isOurs = error instanceof Failure || error instanceof ConnectionFailure
  const message = error instanceof Error ? error.message : String(error)
  const code = isOurs ? error.code : 'internal'
  if (asJson) process.stderr.write(`${JSON.stringify({ error: message, code })}\n`)
  else note(`atoll: ${message}${adviceFor(code)}`)
}

/** What helps with failures that nearly everybody meets first. */
function adviceFor(code: string): string {
  if (code === 'operator.unreachable') return '\nStart one with `atoll serve`, or name another with --url.'
  if (code === 'auth.missing')
    return '\nGive a key with --key or ATOLL_API_KEY. The admin key is in the file admin-key of the state folder.'
  return ''
}
