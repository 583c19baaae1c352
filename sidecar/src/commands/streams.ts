// The standard streams of a started process, seen from the sidecar.
import type { ChildProcess } from 'node:child_process'
import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { closePipe, type Pipe } from './pipes.ts'

export interface Streams {
  readonly stdin: Writable | null
  readonly stdout: Readable
  readonly stderr: Readable
}

/** Whether a process gets a standard input that it can be written to. */
export type Stdin = 'pipe' | 'ignore'

/** How a spawn connects a process, and what is to be done with it then. */
export interface Wiring {
  readonly stdio: readonly (number | 'pipe' | 'ignore')[]
  /** @throws Error for a process that was not started */
  readonly connect: (spawned: ChildProcess) => Streams
  /** For a process that was not started. */
  readonly abandon: () => void
}

export const pipesFor = (stdin: Stdin): number => (stdin === 'pipe' ? 3 : 2)

/** Without pipes Node makes socket pairs. */
export function wire(stdin: Stdin, pipes: readonly Pipe[] | undefined): Wiring {
  const [output, errors, input] = pipes ?? []
  if (!pipes || !output || !errors) return { stdio: [stdin, 'pipe', 'pipe'], connect: socketPairs, abandon: () => undefined }
  return {
    stdio: [input?.reader ?? 'ignore', output.writer, errors.writer],
    connect: () => {
      // Only the process itself has these ends from here on, so that their end is seen.
      closeSync(output.writer)
      closeSync(errors.writer)
      if (input) closeSync(input.reader)
      return {
        stdin: input ? new Socket({ fd: input.writer, readable: false, writable: true }) : null,
        stdout: new Socket({ fd: output.reader, readable: true, writable: false }),
        stderr: new Socket({ fd: errors.reader, readable: true, writable: false }),
      }
    },
    abandon: () => {
      for (const pipe of pipes) closePipe(pipe)
    },
  }
}

function socketPairs({ stdin, stdout, stderr }: ChildProcess): Streams {
  if (!stdout || !stderr) throw new Error('The process was not started.')
  return { stdin, stdout, stderr }
}
