// Runs one command to its end: started as a process, read as a stream that survives lost connections.
import { Failure } from '@atoll/protocol'
import { endOf, type FollowProcessOptions, lost, lostOr, outputOf, type Process, type ProcessEnd, type ProcessOutput } from './process.ts'
import type { Command, StartOptions } from './processes.ts'

export type StdinSource = string | Uint8Array | AsyncIterable<string | Uint8Array>

export interface RunOptions extends Omit<StartOptions, 'stdin'> {
  /** What the command reads; without it, its standard input is empty. */
  readonly stdin?: StdinSource | undefined
  /** Called with each piece of standard output, in order. Reading goes on when it resolves, so a slow reader slows the command. */
  readonly onStdout?: ((text: string) => unknown) | undefined
  /** As `onStdout`, for standard error. */
  readonly onStderr?: ((text: string) => unknown) | undefined
  /** Called with each piece of either stream as it came: bytes, and their order over both streams. */
  readonly onOutput?: ((output: ProcessOutput) => unknown) | undefined
  /** Called when the command has started, with the process that it is. */
  readonly onStart?: ((process: Process) => void) | undefined
  /** False: `stdout` and `stderr` of the result stay empty, for output too long to keep in memory. True when not given. */
  readonly collect?: boolean | undefined
  /** Kills the command with all that it started; `run` then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** Milliseconds to go on without a connection, for example while the operator restarts; 60 000 when not given. */
  readonly patienceMs?: number | undefined
}

export interface RunResult extends ProcessEnd {
  readonly stdout: string
  readonly stderr: string
  /** True when a part of the output was dropped before it could be read. */
  readonly truncated: boolean
}

/** Where commands are started. */
export type Start = (command: Command, options: StartOptions) => Promise<Process>

export async function run(start: Start, command: Command, options: RunOptions): Promise<RunResult> {
  const { signal, stdin } = options
  signal?.throwIfAborted()
  // The signal is not passed on: a start that is cut off would leave a command that nobody knows.
  const process = await start(command, { ...options, stdin: stdin === undefined ? 'closed' : 'open' })
  try {
    options.onStart?.(process)
    const stop = new AbortController()
    const writing = stdin === undefined ? Promise.resolve() : feed(process, stdin, stop.signal)
    const following = read(process, options).finally(() => stop.abort())
    // A failing write must not wait for the command's end, which may wait for that input.
    const [result] = await Promise.all([following, writing])
    return result
  } catch (error) {
    await process.remove()
    throw error
  }
}

async function read(process: Process, options: RunOptions): Promise<RunResult> {
  const { signal, patienceMs, collect = true } = options
  const collected = { stdout: '', stderr: '' }
  const listeners = { stdout: options.onStdout, stderr: options.onStderr }
  let truncated = false
  const finish = (end: ProcessEnd): RunResult => ({ ...end, ...collected, truncated })
  const follow: FollowProcessOptions = { cursor: 0, signal, patienceMs }
  const events = process.events(follow)
  try {
    for (;;) {
      const next = await nextOf(events)
      if ('exitCode' in next) return finish(next)
      if (next.event.type === 'exit') return finish(endOf(next.event))
      const output = outputOf(next.event)
      if (!output) continue
      await options.onOutput?.(output)
      if (output.stream === 'gap') {
        truncated = true
        continue
      }
      if (collect) collected[output.stream] += output.text
      await listeners[output.stream]?.(output.text)
    }
  } finally {
    await events.return(undefined)
  }
}

type Events = ReturnType<Process['events']>
type Next = { readonly event: Parameters<typeof outputOf>[0] } | ProcessEnd

/** The next event, or how the command ended when there will be none. */
async function nextOf(events: Events): Promise<Next> {
  try {
    const { done, value } = await events.next()
    return done ? lost('the stream ended without an exit') : { event: value }
  } catch (error) {
    return lostOr(error)
  }
}

/** Writes all input, then closes it. A command that stops reading, or ends, is no failure. */
async function feed(process: Process, source: StdinSource, ended: AbortSignal): Promise<void> {
  try {
    for await (const piece of piecesOf(source, ended)) await process.write(piece)
    if (!ended.aborted) await process.closeStdin()
  } catch (error) {
    const isOver = error instanceof Failure && (error.code === 'process.ended' || error.code === 'process.not_found')
    if (!isOver && !ended.aborted) throw error
  }
}

async function* piecesOf(source: StdinSource, ended: AbortSignal): AsyncGenerator<string | Uint8Array> {
  if (typeof source === 'string' || source instanceof Uint8Array) return yield source
  const pieces = source[Symbol.asyncIterator]()
  const over = new Promise<IteratorResult<string | Uint8Array>>((resolve) => {
    ended.addEventListener('abort', () => resolve({ done: true, value: undefined }), { once: true })
  })
  for (;;) {
    // A source that never ends (a terminal) must not hold up the result of a command that has ended.
    const { done, value } = await Promise.race([pieces.next(), over])
    if (done) break
    yield value
  }
  // Not awaited: a source that waits for more cannot be told to end before that comes.
  pieces.return?.().catch(() => undefined)
}
