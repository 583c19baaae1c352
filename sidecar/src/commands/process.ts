// One process that was started in the background, with its log.
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { type Exit, Failure, type Process as ProcessView } from '@atoll/protocol'
import type { Child } from './child.ts'
import type { EventLog } from './event-log.ts'
import { isChild, type Launch, type Launched, type NotRunnable } from './launcher.ts'
import { Output } from './output.ts'

/** More than the kernel holds of two pipes at their largest: whatever comes later was not written by the process itself. */
const leftInPipesBytes = 3 * 1024 * 1024

export interface ProcessParts {
  readonly id: string
  readonly launch: Launch
  readonly launched: Launched
  readonly log: EventLog
  readonly timeoutMs: number
  readonly onEnd: () => void
}

export class Process {
  readonly id: string
  readonly log: EventLog
  readonly #launch: Launch
  readonly #child: Child | undefined
  readonly #startedAt = Date.now()
  readonly #startedTick = performance.now()
  #endedAt: number | undefined
  #exit: Exit | undefined
  #isPaused = false
  #bytesAfterExit = 0
  #stdinTurn: Promise<unknown> = Promise.resolve()

  constructor({ id, launch, launched, log, timeoutMs, onEnd }: ProcessParts) {
    this.id = id
    this.log = log
    this.#launch = launch
    if (isChild(launched)) {
      this.#child = launched
      void this.#run(launched, timeoutMs).finally(onEnd)
    } else {
      this.#refuse(launched)
      onEnd()
    }
  }

  get endedAt(): number | undefined {
    return this.#endedAt
  }

  view(): ProcessView {
    return {
      id: this.id,
      pid: this.#child?.pid ?? null,
      argv: [...this.#launch.argv],
      cwd: this.#launch.cwd,
      started_at: this.#startedAt,
      ended_at: this.#endedAt ?? null,
      exit: this.#exit ?? null,
      timed_out: this.#child?.isTimedOut ?? false,
      last_seq: this.log.last,
      first_seq: this.log.first,
    }
  }

  /** A program that cannot be run has output and an exit like any other. */
  #refuse({ code, message }: NotRunnable): void {
    this.log.append('stderr', (seq) => ({ type: 'stderr', seq, text: message }))
    this.#end({ type: 'exited', code })
  }

  async #run(child: Child, timeoutMs: number): Promise<void> {
    const outputs = [this.#pump(child, 'stdout'), this.#pump(child, 'stderr')]
    child.stdin?.on('error', () => child.stdin?.destroy())
    if (timeoutMs > 0) child.stopAfter(timeoutMs)
    const exit = await child.settled(() => this.#isPaused && this.#bytesAfterExit < leftInPipesBytes)
    for (const output of outputs) output.flush()
    this.#end(exit)
    child.stdin?.destroy()
    // What a grandchild in the background still writes goes nowhere, and does not block it.
    child.stdout.resume()
    child.stderr.resume()
  }

  #pump(child: Child, type: 'stdout' | 'stderr'): Output {
    const output = new Output((piece) => this.log.append(type, (seq) => ({ type, seq, ...piece })))
    const stream = child[type]
    stream.on('error', () => stream.destroy())
    stream.on('data', (chunk: Buffer) => {
      if (this.log.isEnded) return
      if (!child.isAlive) this.#bytesAfterExit += chunk.length
      output.push(chunk)
      if (this.log.isFull) this.#pause(child)
    })
    return output
  }

  #pause(child: Child): void {
    if (this.#isPaused) return
    const streams: Readable[] = [child.stdout, child.stderr]
    this.#isPaused = true
    for (const stream of streams) stream.pause()
    void this.log.room().then(() => {
      this.#isPaused = false
      for (const stream of streams) stream.resume()
    })
  }

  #end(exit: Exit): void {
    this.#exit = exit
    this.#endedAt = Date.now()
    const durationMs = performance.now() - this.#startedTick
    const timedOut = this.#child?.isTimedOut ?? false
    this.log.append('exit', (seq) => ({ type: 'exit', seq, exit, timed_out: timedOut, duration_ms: durationMs }))
    this.log.end()
  }

  #living(): Child {
    if (!this.#child?.isAlive) throw new Failure('process.ended', `The process ${this.id} has ended.`)
    return this.#child
  }

  /** @throws Failure `process.ended` */
  signal(signal: NodeJS.Signals): void {
    this.#living().signal(signal)
  }

  /** Ends the whole group at once. */
  async kill(): Promise<void> {
    if (!this.#child?.isAlive) return
    this.#child.signal('SIGKILL')
    await this.#child.exit
  }

  /**
   * Passes bytes on to standard input at the pace of the process, one caller after the other.
   * @throws Failure `process.ended` when there is nobody, or nobody any more, who reads
   */
  writeStdin(source: AsyncIterable<Buffer>, options: { close: boolean; signal: AbortSignal }): Promise<number> {
    const turn = this.#stdinTurn.then(() => this.#writeStdin(source, options))
    this.#stdinTurn = turn.catch(() => undefined)
    return turn
  }

  async #writeStdin(source: AsyncIterable<Buffer>, { close, signal }: { close: boolean; signal: AbortSignal }): Promise<number> {
    const { stdin } = this.#living()
    if (!stdin?.writable) throw new Failure('process.ended', `Standard input of the process ${this.id} is closed.`)
    let bytes = 0
    for await (const chunk of source) {
      if (!stdin.writable) throw new Failure('process.ended', `The process ${this.id} reads no more input.`)
      bytes += chunk.length
      if (!stdin.write(chunk)) await drainedOrClosed(stdin, signal)
      if (stdin.destroyed) throw new Failure('process.ended', `The process ${this.id} reads no more input.`)
    }
    if (close) stdin.end()
    return bytes
  }
}

async function drainedOrClosed(stdin: Writable, signal: AbortSignal): Promise<void> {
  const done = new AbortController()
  const either = AbortSignal.any([signal, done.signal])
  try {
    await Promise.race([once(stdin, 'drain', { signal: either }), once(stdin, 'close', { signal: either })])
  } catch (error) {
    // A broken pipe closes the stream, which is what was waited for.
    if (signal.aborted) throw error
  } finally {
    done.abort()
  }
}
