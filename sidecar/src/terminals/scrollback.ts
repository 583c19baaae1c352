// What a terminal has written lately, numbered. A viewer that falls behind what is kept is told of the gap; only when every viewer is
// far behind is the terminal held back, so one slow viewer neither slows the others down nor costs memory.
import type { TerminalEvent } from '@atoll/protocol'
import { ChangeSignal } from '../change-signal.ts'
import { type Feed, frame, type Reader } from '../event-stream.ts'

export type Entry = { readonly type: 'data'; readonly bytes: Buffer } | { readonly type: 'event'; readonly event: TerminalEvent }

const batchBytes = 128 * 1024
/** What an entry takes beside its bytes. */
const overheadBytes = 64

const sizeOf = (entry: Entry): number => overheadBytes + (entry.type === 'data' ? entry.bytes.length : 0)

function frameOf(seq: number, entry: Entry): Buffer {
  if (entry.type === 'event') return frame(seq, entry.event.type, entry.event)
  return frame(seq, 'data.stdout', { type: 'data.stdout', properties: { text: entry.bytes.toString('utf8') } })
}

export class Scrollback implements Feed {
  readonly #maxBytes: number
  readonly #entries: Entry[] = []
  readonly #readers = new Set<Reader>()
  #size = 0
  #last = 0
  #state: 'open' | 'ended' | 'removed' = 'open'
  readonly #change = new ChangeSignal()

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get #first(): number {
    return this.#last - this.#entries.length + 1
  }

  get isEnded(): boolean {
    return this.#state !== 'open'
  }

  get isRemoved(): boolean {
    return this.#state === 'removed'
  }

  get viewerCount(): number {
    return this.#readers.size
  }

  /** Where a viewer begins that has seen nothing: with what is kept. */
  get beginning(): number {
    return this.#first - 1
  }

  append(entry: Entry): void {
    this.#last += 1
    this.#entries.push(entry)
    this.#size += sizeOf(entry)
    while (this.#size > this.#maxBytes && this.#entries.length > 1) {
      const oldest = this.#entries.shift()
      if (oldest) this.#size -= sizeOf(oldest)
    }
    this.#change.notify()
  }

  end(): void {
    if (this.#state === 'open') this.#state = 'ended'
    this.#change.notify()
  }

  remove(): void {
    this.#state = 'removed'
    this.#entries.length = 0
    this.#change.notify()
  }

  changed(): Promise<void> {
    return this.#change.next
  }

  /** True while every viewer has more than half of what is kept still before it. */
  get isFarAhead(): boolean {
    const viewers = [...this.#readers].filter(({ isSpectator }) => !isSpectator)
    if (viewers.length === 0 || this.isEnded) return false
    const best = Math.max(...viewers.map(({ position }) => position))
    let behind = 0
    for (const entry of this.#entries.slice(Math.max(0, best + 1 - this.#first))) behind += sizeOf(entry)
    return behind > this.#maxBytes / 2
  }

  attach(after: number, isSpectator = false): Reader {
    const position = Math.min(after, this.#last)
    const reader = { isSpectator, position, inHand: position }
    this.#readers.add(reader)
    return reader
  }

  detach(reader: Reader): void {
    this.#readers.delete(reader)
  }

  /** As `take`, but the entries themselves. A gap comes alone. */
  takeEntries(reader: Reader): readonly Entry[] {
    reader.position = reader.inHand
    const wanted = reader.position + 1
    if (wanted > this.#last || this.isRemoved) return []
    if (wanted < this.#first) {
      reader.inHand = this.#first - 1
      return [{ type: 'event', event: { type: 'gap', from: wanted, to: reader.inHand } }]
    }
    const taken: Entry[] = []
    for (let bytes = 0; bytes < batchBytes && reader.inHand < this.#last; reader.inHand += 1) {
      const entry = this.#entries[reader.inHand + 1 - this.#first]
      if (!entry) break
      taken.push(entry)
      bytes += sizeOf(entry)
    }
    return taken
  }

  take(reader: Reader): Buffer | undefined {
    const entries = this.takeEntries(reader)
    if (entries.length === 0) return undefined
    const first = reader.inHand - entries.length + 1
    return Buffer.concat(entries.map((entry, index) => frameOf(first + index, entry)))
  }
}
