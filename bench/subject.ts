// What a bench is given, and what the bare runtimes offer to compare with.
import type { Atoll, RuntimeName, Sandbox } from '@atoll/sdk'
import type { Report } from './report.ts'

/** A program and its arguments on this machine. */
export type Invocation = readonly [program: string, ...args: string[]]

/** The lower bound: what a runtime stands on, without Atoll. */
export interface Bare {
  /** What it is, for the report. */
  readonly name: string
  /** Makes one isolated place, runs `echo` in it, and removes it. Resolves with the milliseconds until the echo was read. */
  create(image: string): Promise<number>
  /** How a person runs a command in such a place on this machine. @param isTerminal with a terminal */
  invocation(sandbox: Sandbox, argv: readonly string[], isTerminal?: boolean): Invocation
  /** What `invocation` is, for the report. */
  readonly invocationName: string
}

export interface Subject {
  readonly atoll: Atoll
  readonly runtime: RuntimeName
  readonly bare: Bare
  /** How many times each side is measured. */
  readonly count: number
  readonly progress: (done: number, of: number) => void
}

export type Bench = (subject: Subject) => Promise<Report>

export const size = { memoryMb: 512 } as const

/** Milliseconds that the work took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now()
  await work()
  return performance.now() - startedAt
}
