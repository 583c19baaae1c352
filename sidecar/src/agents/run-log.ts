// The events of one run on disk, a JSON document a line. It outlives the sidecar, and any number of readers follow it at their own pace.
import { closeSync, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs'
import type { AgentEvent } from '@atoll/protocol'
import { ChangeSignal } from '../change-signal.ts'
import type { Feed, Reader } from '../event-stream.ts'
import { errnoOf } from '../files/file-failure.ts'
import { keptMode, openKept } from './kept-file.ts'

const batchBytes = 128 * 1024
/** What readers that keep up find at hand, also of events that the disk had no room for. */
const tailLength = 256 * 1024
/** What a file system takes beside the bytes themselves. */
const spareBytes = 16 * 1024
const head = /^\{"seq":(\d{1,15}),"at":\d+,"type":"([\w.]+)"/
/** Where the head of a line ends at the latest. */
const headLength = 200

/** An event that is in a log. */
export type LoggedEvent = Exclude<AgentEvent, { type: 'gap' }>

export interface RunLogOptions {
  readonly file: string
  readonly maxBytes: number
  /** Called when the disk is full: whether room was made. */
  readonly makeRoom: () => boolean
  /** The file is left as it is, and what is added is known to readers here alone. */
  readonly isReadOnly?: boolean
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

/** The event in a line; undefined in one that was cut, or is of somebody else. */
function parsed(line: string): LoggedEvent | undefined {
  if (!head.test(line)) return undefined
  try {
    return JSON.parse(line)
  } catch {
    return undefined // The power went while it was written.
  }
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
    const { file, maxBytes, isReadOnly } = this.#options
    // What is too large for one that was kept small by us was not written by us.
    const fd = isReadOnly ? openKept(file, { maxBytes: 2 * maxBytes, orEmpty: true }) : openSync(file, 'a+', keptMode)
    this.#fd = fd
    this.#lines = []
    this.#bytes = 0
    const size = this.#findLines(fd, fstatSync(fd).size)
    if (size > this.#bytes && !isReadOnly) ftruncateSync(fd, this.#bytes)
    this.#last = Math.max(this.#last, this.#lines.at(-1)?.seq ?? 0)
    return fd
  }

  /** Notes the whole lines, and answers how much was read. */
  #findLines(fd: number, size: number): number {
    const chunk = Buffer.allocUnsafe(batchBytes)
    let begun = ''
    let at = 0
    while (at < size) {
      const length = readSync(fd, chunk, 0, chunk.length, at)
      if (length === 0) break
      begun = this.#index(chunk.subarray(0, length), at, begun)
      at += length
    }
    return at
  }

  /** @param begun how the line begins that goes on at `at`. Answers the same of the line that goes on behind these bytes. */
  #index(bytes: Buffer, at: number, begun: string): string {
    let start = 0
    let before = begun
    for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
      const [, seq] = head.exec(before + bytes.toString('latin1', start, Math.min(end, start + headLength))) ?? []
      const length = at + end + 1 - this.#bytes
      this.#lines.push({ seq: Number(seq ?? this.#lines.at(-1)?.seq ?? 0), at: this.#bytes, length })
      this.#bytes += length
      start = end + 1
      before = ''
    }
    return (before + bytes.toString('latin1', start, start + headLength)).slice(0, headLength)
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
    if (!this.#options.isReadOnly) this.#keep(fd, { seq, isEnd: type === 'run.finished' }, Buffer.from(`${text}\n`))
    this.#change.notify()
  }

  #keep(fd: number, { seq, isEnd }: { readonly seq: number; readonly isEnd: boolean }, bytes: Buffer): void {
    if (!this.#write(fd, seq, bytes) && isEnd) this.#writeAnyway(fd, seq, bytes)
    if (this.#bytes > this.#options.maxBytes) this.#dropOldest()
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
    const other = openSync(draft, 'w', keptMode)
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

  /** Every event, in order. What is none is passed over: it was not written by us. */
  *events(): Generator<LoggedEvent> {
    for (const text of this.texts()) {
      const event = parsed(text)
      if (event) yield event
    }
  }

  /** The lines that are on disk, and what is added meanwhile; no more of a log that is removed meanwhile. */
  *texts(): Generator<string> {
    const reader = this.attach(0)
    try {
      let seq = 0
      while (!this.isRemoved) {
        const line = this.#lines[this.#indexOf(seq + 1)]
        if (!line) break
        seq = line.seq
        yield this.#read(line)
      }
      // What the disk has no room for, or may not be written to.
      for (const { seq: next, text } of [...this.#tail]) if (next > seq && !this.isRemoved) yield text
    } finally {
      this.detach(reader)
    }
  }
}
