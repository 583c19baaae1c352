// The ordered output of one process or terminal, as finished frames of an event stream. Short logs stay in memory, longer ones go to
// disk in segments, of which the oldest are dropped. A segment that an attached reader still needs is never dropped: then the log is
// full, and whoever fills it has to wait for the reader.
import { closeSync, openSync, read, unlinkSync, writeSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { ChangeSignal } from '../change-signal.ts'
import { type Feed, frame, type Reader } from '../event-stream.ts'
import type { LogBudget } from './log-budget.ts'

const readAt = promisify(read)

/** Logs up to this size never touch the disk; of longer ones this much is at hand for readers that keep up. */
const tailBytes = 64 * 1024
const batchBytes = 128 * 1024
const maxSegmentBytes = 4 * 1024 * 1024

/** A part of the log on disk. Its file has no name any more, so that nothing stays behind however the sidecar ends. */
export interface Segment {
  readonly fd: number
  readonly first: number
  /** Where each frame begins. */
  readonly offsets: number[]
  bytes: number
}

export interface LogOptions {
  readonly directory: string
  readonly name: string
  readonly maxBytes: number
  readonly budget: LogBudget
}

const isDiskFull = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')

const lastOf = (segment: Segment): number => segment.first + segment.offsets.length - 1

export class EventLog implements Feed {
  readonly #options: LogOptions
  readonly #segmentBytes: number
  readonly #segments: Segment[] = []
  readonly #tail: Buffer[] = []
  readonly #readers = new Set<Reader>()
  #maxBytes: number
  #tailSize = 0
  #diskBytes = 0
  #segmentNumber = 0
  #last = 0
  #state: 'open' | 'ended' | 'removed' = 'open'
  readonly #change = new ChangeSignal()
  #room: PromiseWithResolvers<void> | undefined

  constructor(options: LogOptions) {
    this.#options = options
    this.#maxBytes = options.maxBytes
    this.#segmentBytes = Math.min(maxSegmentBytes, Math.max(tailBytes, Math.floor(options.maxBytes / 8)))
    options.budget.add(this)
  }

  get last(): number {
    return this.#last
  }

  get first(): number {
    return Math.min(this.#segments[0]?.first ?? this.#tailFirst, this.#tailFirst)
  }

  get #tailFirst(): number {
    return this.#last - this.#tail.length + 1
  }

  get isEnded(): boolean {
    return this.#state !== 'open'
  }

  get isRemoved(): boolean {
    return this.#state === 'removed'
  }

  get readerCount(): number {
    return this.#readers.size
  }

  get diskBytes(): number {
    return this.#diskBytes
  }

  /** Adds what `data` makes of the number that it gets. */
  append(event: string, data: (seq: number) => object): void {
    if (this.isEnded) return
    const seq = this.#last + 1
    const bytes = frame(seq, event, data(seq))
    this.#last = seq
    const isSpilling = this.#segments.length === 0 && this.#tailSize + bytes.length > tailBytes
    this.#tail.push(bytes)
    this.#tailSize += bytes.length
    if (isSpilling) for (const [index, kept] of this.#tail.entries()) this.#write(this.#tailFirst + index, kept)
    else if (this.#segments.length > 0) this.#write(seq, bytes)
    while (this.#tailSize > tailBytes && this.#tail.length > 1) this.#tailSize -= this.#tail.shift()?.length ?? 0
    this.#change.notify()
  }

  end(): void {
    if (this.#state === 'open') this.#state = 'ended'
    this.#change.notify()
    this.checkRoom()
  }

  /** Forgets everything; who still reads is sent away. */
  remove(): void {
    this.#state = 'removed'
    while (this.#segments.length > 0) this.dropOldest()
    this.#tail.length = 0
    this.#options.budget.delete(this)
    this.#change.notify()
    this.checkRoom()
  }

  changed(): Promise<void> {
    return this.#change.next
  }

  #write(seq: number, bytes: Buffer): void {
    this.#makeRoom(bytes.length)
    const segment = this.#segmentFor(seq, bytes.length)
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(segment.fd, bytes, done, bytes.length - done, segment.bytes + done)
    } catch (error) {
      if (!isDiskFull(error)) throw error
      this.#keepLess(segment)
      return
    }
    segment.offsets.push(segment.bytes)
    segment.bytes += bytes.length
    this.#diskBytes += bytes.length
    this.#options.budget.grow(bytes.length)
  }

  /** The state disk has less room than was planned with; what was not kept is a gap for readers who come too late for the tail. */
  #keepLess(segment: Segment): void {
    this.#maxBytes = Math.min(this.#maxBytes, this.#diskBytes)
    if (segment.offsets.length > 0) return
    this.#segments.pop()
    closeSync(segment.fd)
  }

  /** The newest segment while the frame fits and follows without a hole, else another one. */
  #segmentFor(seq: number, bytes: number): Segment {
    const current = this.#segments.at(-1)
    if (current && current.bytes + bytes <= this.#segmentBytes && lastOf(current) === seq - 1) return current
    return this.#openSegment(seq)
  }

  #openSegment(first: number): Segment {
    this.#segmentNumber += 1
    const file = path.join(this.#options.directory, `${this.#options.name}-${this.#segmentNumber}`)
    const fd = openSync(file, 'wx+', 0o600)
    unlinkSync(file)
    const segment = { fd, first, offsets: [], bytes: 0 }
    this.#segments.push(segment)
    return segment
  }

  #makeRoom(bytes: number): void {
    while (this.#diskBytes + bytes > this.#maxBytes && this.canDrop) this.dropOldest()
    this.#options.budget.makeRoom(bytes)
  }

  /** Whether there is a segment that no attached reader waits for. */
  get canDrop(): boolean {
    const [oldest] = this.#segments
    if (!oldest) return false
    const last = lastOf(oldest)
    return [...this.#readers].every((reader) => reader.isSpectator || reader.position >= last)
  }

  dropOldest(): void {
    const oldest = this.#segments.shift()
    if (!oldest) return
    closeSync(oldest.fd)
    this.#diskBytes -= oldest.bytes
    this.#options.budget.grow(-oldest.bytes)
  }

  /** True while more output would push out what an attached reader has not taken. */
  get isFull(): boolean {
    if (this.isEnded) return false
    const isOver = this.#diskBytes >= this.#maxBytes && this.#segments.length > 0
    return (isOver && !this.canDrop) || this.#options.budget.isFull
  }

  /** Resolves when the log is not full. */
  async room(): Promise<void> {
    while (this.isFull) {
      this.#room ??= Promise.withResolvers()
      await this.#room.promise
    }
  }

  /** Called when a reader went on or went away, here or in another log. */
  checkRoom(): void {
    if (!this.#room || this.isFull) return
    this.#room.resolve()
    this.#room = undefined
  }

  attach(after: number, isSpectator = false): Reader {
    const position = Math.min(after, this.#last)
    const reader = { isSpectator, position, inHand: position }
    this.#readers.add(reader)
    return reader
  }

  detach(reader: Reader): void {
    this.#readers.delete(reader)
    this.#options.budget.checkRoom()
  }

  async take(reader: Reader): Promise<Buffer | undefined> {
    if (reader.position !== reader.inHand) {
      reader.position = reader.inHand
      this.#options.budget.checkRoom()
    }
    const wanted = reader.position + 1
    if (wanted > this.#last || this.isRemoved) return undefined
    if (wanted >= this.#tailFirst) return this.#takeTail(reader, wanted)
    const segment = this.#segments.find((candidate) => lastOf(candidate) >= wanted)
    if (segment && segment.first <= wanted) return this.#takeSegment(reader, segment, wanted)
    const to = Math.min(segment?.first ?? this.#tailFirst, this.#tailFirst) - 1
    reader.inHand = to
    return frame(to, 'gap', { type: 'gap', from: wanted, to })
  }

  #takeTail(reader: Reader, wanted: number): Buffer {
    reader.inHand = this.#last
    return Buffer.concat(this.#tail.slice(wanted - this.#tailFirst))
  }

  async #takeSegment(reader: Reader, segment: Segment, wanted: number): Promise<Buffer | undefined> {
    const from = wanted - segment.first
    const start = segment.offsets[from] ?? 0
    let count = 1
    const endOf = (index: number): number => segment.offsets[index] ?? segment.bytes
    while (from + count < segment.offsets.length && endOf(from + count + 1) - start <= batchBytes) count += 1
    const length = endOf(from + count) - start
    const { bytesRead, buffer } = await readAt(segment.fd, Buffer.allocUnsafe(length), 0, length, start).catch((error: unknown) => {
      if (!this.#segments.includes(segment)) return { bytesRead: 0, buffer: Buffer.alloc(0) }
      throw error
    })
    // The file may have been closed meanwhile, and its number be another file's.
    if (!this.#segments.includes(segment)) return this.take(reader)
    if (bytesRead !== length) throw new Error(`The log ${this.#options.name} is shorter on disk than it was written.`)
    reader.inHand = wanted + count - 1
    return buffer
  }
}
