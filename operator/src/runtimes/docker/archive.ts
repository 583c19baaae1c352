// Reads the few small files that are wanted of a tar stream of the engine.
import type { Readable } from 'node:stream'

interface TarEntry {
  readonly name: string
  readonly isFile: boolean
  readonly content: Buffer
}

const block = 512
/** Above what an account file takes. */
const maxContentBytes = 1024 * 1024

const textAt = (header: Buffer, from: number, length: number): string => {
  const field = header.subarray(from, from + length)
  const end = field.indexOf(0)
  return field.subarray(0, end === -1 ? length : end).toString('utf8')
}

const typeOf = (header: Buffer): string => textAt(header, 156, 1) || '0'
const sizeOf = (header: Buffer): number => Number.parseInt(textAt(header, 124, 12).trim() || '0', 8)

interface Taken {
  /** Undefined for the headers that only extend the next one. */
  readonly entry: TarEntry | undefined
  readonly rest: Buffer
  /** Nothing that follows is read. */
  readonly isLast: boolean
}

/** The first entry of what was read so far; undefined when it is not whole yet. */
function takeEntry(bytes: Buffer): Taken | undefined {
  if (bytes.length < block) return undefined
  const header = bytes.subarray(0, block)
  if (header[0] === 0) return { entry: undefined, rest: bytes, isLast: true }
  const size = sizeOf(header)
  const isTooLong = size > maxContentBytes
  const end = block + (isTooLong ? 0 : Math.ceil(size / block) * block)
  if (bytes.length < end) return undefined
  const content = Buffer.from(bytes.subarray(block, isTooLong ? block : block + size))
  const entry = { name: textAt(header, 0, 100), isFile: typeOf(header) === '0', content }
  return { entry: 'xgLK'.includes(typeOf(header)) ? undefined : entry, rest: bytes.subarray(end), isLast: isTooLong }
}

/** Entries in order, the last one that is too long without its content. Leaving early ends the stream. */
export async function* tarEntries(stream: Readable): AsyncGenerator<TarEntry> {
  let pending = Buffer.alloc(0)
  for await (const chunk of stream) {
    pending = Buffer.concat([pending, chunk])
    for (let taken = takeEntry(pending); taken; taken = takeEntry(pending)) {
      pending = Buffer.from(taken.rest)
      if (taken.entry) yield taken.entry
      if (taken.isLast) return
    }
  }
}
