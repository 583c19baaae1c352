import { z } from 'zod'

/** How a process ended. A missing end is never success: without one, the exit is `lost`. */
export const Exit = z
  .discriminatedUnion('type', [
    z.object({ type: z.literal('exited'), code: z.int().min(0).max(255) }),
    z.object({ type: z.literal('signalled'), signal: z.string() }),
    z.object({ type: z.literal('lost'), reason: z.string() }),
  ])
  .meta({ id: 'Exit' })
export type Exit = z.infer<typeof Exit>

const signalNumbers: Record<string, number> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
}

/** The shell's number for an exit: the code, 128 + signal, or 255 for a lost process. Never 0 unless the process exited with 0. */
export function exitNumber(exit: Exit): number {
  if (exit.type === 'exited') return exit.code
  if (exit.type === 'signalled') return 128 + (signalNumbers[exit.signal] ?? 0)
  return 255
}
