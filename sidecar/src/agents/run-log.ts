// The events of one run on disk, a JSON document a line. It outlives the sidecar, and any number of readers follow it at their own pace.
import { closeSync, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs'
import type { AgentEvent } from '@atoll/protocol'
import { ChangeSignal } from '../change-signal.ts'
import type { Feed, Reader } from '../event-stream.ts'
import { errnoOf } from '../files/file-failure.ts'

const batchBytes = 128 * 1024
/** What readers that keep up find at hand, also of events that the disk had no room for. */
const tailLength = 256 * 1024
/** What a file system takes beside the bytes themselves. */
const spareBytes = 16 * 1024
const head = /^\{"seq":(\d+),"at":\d+,"type":"([\w.]+)"/

/** An event that is in a log. */
export type LoggedEvent = Exclude<AgentEvent, { type: 'gap' }>

export interface RunLogOptions {
  readonly file: string
  readonly maxBytes: number
  /** Called when the disk is full: whether room was made. */
  readonly makeRoom: () => boolean
}

interface Line {
  readonly seq: number
  readonly at: number
  readonly length: number
}

export const isDiskFull = (error: unknown): boolean => ['ENOSPC', 'EDQUOT'].includes(errnoOf(error))

/** A line as it travels. A line that does not say what it is was not written by us, and is passed over. */
function frameOf(line: string): string {
  const [, seq, type] = head.exec(line) ?? []
  return seq === undefined ? '' : `id: ${seq}\nevent: ${type}\ndata: ${line}\n\n`
}

export class RunLog implements Feed {
  readonly #options: RunLogOptions
  #fd: number | undefined
  /** Of what is on disk, in order. */
  #lines: Line[] = []
  readonly #tail: { readonly seq: number; readonly text: string }[] = []
  #tailSize = 0
  #bytes = 0
  #last = 0
  #state: 'open' | 'ended' | 'removed' = 'open'
  readonly #change = new ChangeSignal()
  #readers = 0

  constructor(options: RunLogOptions) {
    this.#options = options
  }

  /** Sequence number of the newest event; known once the log was opened. */
  get last(): number {
    return this.#last
  }

  get bytes(): number {
    return this.#bytes
  }

  get isEnded(): boolean {
    return this.#state !== 'open'
  }

  get isRemoved(): boolean {
    return this.#state === 'removed'
  }

  /** Opens the file and finds its lines. A last line that was not written whole is taken away. */
  #open(): number {
    if (this.#fd !== undefined) return this.#fd
    const fd = openSync(this.#options.file, 'a+', 0o600)
    this.#fd = fd
    this.#lines = []
    this.#bytes = 0
    const size = fstatSync(fd).size
    const chunk = Buffer.allocUnsafe(batchBytes)
    let rest: Buffer = Buffer.alloc(0)
    for (let at = 0; at < size; ) {
      const length = readSync(fd, chunk, 0, chunk.length, at)
      if (length === 0) break
      at += length
      rest = this.#index(Buffer.concat([rest, chunk.subarray(0, length)]))
    }
    if (rest.length > 0) ftruncateSync(fd, this.#bytes)
    this.#last = Math.max(this.#last, this.#lines.at(-1)?.seq ?? 0)
    return fd
  }

  /** Notes the whole lines, and answers what is left behind them. */
  #index(bytes: Buffer): Buffer {
    let start = 0
    for (let end = bytes.indexOf(10, start); end !== -1; end = bytes.indexOf(10, start)) {
      const [, seq] = head.exec(bytes.toString('utf8', start, Math.min(end, start + 200))) ?? []
      const length = end + 1 - start
      this.#lines.push({ seq: Number(seq ?? this.#lines.at(-1)?.seq ?? 0), at: this.#bytes, length })
      this.#bytes += length
      start = end + 1
    }
    return bytes.subarray(start)
  }

  append(event: LoggedEvent): void {
    if (this.isEnded) return
    const fd = this.#open()
    this.#last = event.seq
    const { seq, at, type, ...more } = event
    const text = JSON.stringify({ seq, at, type, ...more })
    this.#tail.push({ seq, text })
    this.#tailSize += text.length
    while (this.#tailSize > tailLength && this.#tail.length > 1) this.#tailSize -= this.#tail.shift()?.text.length ?? 0
    const bytes = Buffer.from(`${text}\n`)
    if (!this.#write(fd, seq, bytes) && type === 'run.finished') this.#writeAnyway(fd, seq, bytes)
    if (this.#bytes > this.#options.maxBytes) this.#dropOldest()
    this.#change.notify()
  }

  /** What finds no room on disk is a gap for readers that come too late for the tail. Answers whether it is there. */
  #write(fd: number, seq: number, bytes: Buffer): boolean {
    for (;;) {
      try {
        for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done)
        this.#lines.push({ seq, at: this.#bytes, length: bytes.length })
        this.#bytes += bytes.length
        return true
      } catch (error) {
        if (!isDiskFull(error)) throw error
        ftruncateSync(fd, this.#bytes)
        if (!this.#options.makeRoom()) return false
      }
    }
  }

  /** The end is worth more than what came before it. */
  #writeAnyway(fd: number, seq: number, bytes: Buffer): void {
    for (let freed = 0; freed < bytes.length + spareBytes; ) {
      const line = this.#lines.pop()
      if (!line) break
      freed += line.length
      this.#bytes = line.at
    }
    ftruncateSync(fd, this.#bytes)
    this.#write(fd, seq, bytes)
  }

  /** Keeps the newer half. */
  #dropOldest(): void {
    const fd = this.#open()
    const from = this.#lines.findIndex((line) => line.at >= this.#bytes / 2)
    const start = this.#lines[from]?.at
    if (from < 1 || start === undefined) return
    const draft = `${this.#options.file}.draft`
    const other = openSync(draft, 'w', 0o600)
    try {
      for (const piece of this.#pieces(fd, start)) for (let done = 0; done < piece.length; ) done += writeSync(other, piece, done)
    } catch (error) {
      rmSync(draft, { force: true })
      if (!isDiskFull(error)) throw error
      return
    } finally {
      closeSync(other)
    }
    renameSync(draft, this.#options.file)
    this.unload()
    this.#open()
  }

  *#pieces(fd: number, from: number): Generator<Buffer> {
    const piece = Buffer.allocUnsafe(batchBytes)
    for (let at = from; at < this.#bytes; ) {
      const length = readSync(fd, piece, 0, piece.length, at)
      if (length === 0) return
      yield piece.subarray(0, length)
      at += length
    }
  }

  /** Nothing comes any more. What was written is on the disk when this returns. */
  end(): void {
    if (this.#state === 'open') this.#state = 'ended'
    if (this.#fd !== undefined) fdatasyncSync(this.#fd)
    this.#change.notify()
    if (this.#readers === 0) this.unload()
  }

  /** For a run that is over; its log has the end already. */
  markEnded(): void {
    this.#state = 'ended'
  }

  /** Whoever still reads is sent away. The file is its owner's to remove. */
  remove(): void {
    this.#state = 'removed'
    this.unload()
    this.#change.notify()
  }

  /** Gives the file back; it is opened again when it is needed. */
  unload(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
    this.#lines = []
  }

  changed(): Promise<void> {
    return this.#change.next
  }

  attach(after: number, isSpectator = false): Reader {
    if (!this.isRemoved) this.#open()
    this.#readers += 1
    const position = Math.min(after, this.#last)
    return { isSpectator, position, inHand: position }
  }

  detach(_reader: Reader): void {
    this.#readers -= 1
    if (this.#readers === 0 && this.isEnded) this.unload()
  }

  take(reader: Reader): Buffer | undefined {
    reader.position = reader.inHand
    const wanted = reader.position + 1
    if (this.isRemoved || wanted > this.#last) return undefined
    const firstInTail = this.#tail[0]?.seq ?? Number.POSITIVE_INFINITY
    if (wanted >= firstInTail) return this.#takeTail(reader, wanted - firstInTail)
    const index = this.#indexOf(wanted)
    const line = this.#lines[index]
    if (line?.seq === wanted) return this.#takeLines(reader, index)
    const to = Math.min(line?.seq ?? this.#last + 1, firstInTail) - 1
    reader.inHand = to
    return Buffer.from(`id: ${to}\nevent: gap\ndata: ${JSON.stringify({ type: 'gap', from: wanted, to })}\n\n`)
  }

  #takeTail(reader: Reader, index: number): Buffer {
    reader.inHand = this.#last
    return Buffer.from(
      this.#tail
        .slice(index)
        .map(({ text }) => frameOf(text))
        .join(''),
    )
  }

  /** The first line on disk that is not older than the event. */
  #indexOf(seq: number): number {
    let low = 0
    let high = this.#lines.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#lines[middle]?.seq ?? 0) < seq) low = middle + 1
      else high = middle
    }
    return low
  }

  #takeLines(reader: Reader, index: number): Buffer {
    const texts: string[] = []
    let size = 0
    for (let next = index; next < this.#lines.length; next++) {
      const line = this.#lines[next]
      const isNext = line?.seq === reader.position + 1 + texts.length
      if (!line || !isNext || (size > 0 && size + line.length > batchBytes)) break
      texts.push(this.#read(line))
      size += line.length
    }
    reader.inHand = reader.position + texts.length
    return Buffer.from(texts.map(frameOf).join(''))
  }

  #read({ at, length }: Line): string {
    const bytes = Buffer.allocUnsafe(length)
    const read = readSync(this.#open(), bytes, 0, length, at)
    return bytes.toString('utf8', 0, read).trimEnd()
  }

  /** Every event that is on disk, in order. */
  *events(): Generator<LoggedEvent> {
    for (const text of this.texts()) {
      const event: LoggedEvent = JSON.parse(text)
      yield event
    }
  }

  /** The lines that are on disk, and what is added meanwhile; no more of a log that is removed meanwhile. */
  *texts(): Generator<string> {
    const reader = this.attach(0)
    try {
      for (let seq = 0; !this.isRemoved; ) {
        const line = this.#lines[this.#indexOf(seq + 1)]
        if (!line) return
        seq = line.seq
        yield this.#read(line)
      }
    } finally {
      this.detach(reader)
    }
  }
}
