import { Failure } from '@atoll/protocol'

export interface ByteRange {
  readonly start: number
  /** The last byte, included. */
  readonly end: number
}

const single = /^bytes=(\d*)-(\d*)$/

/**
 * The one range that a header asks for; undefined for the whole file, which also answers what is not understood, as HTTP has it.
 * @throws Failure `file.range` when nothing of it is in the file
 */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined {
  const [, from, to] = single.exec(header ?? '') ?? []
  if (from === undefined || to === undefined || (from === '' && to === '')) return undefined
  const start = from === '' ? Math.max(0, size - Number(to)) : Number(from)
  const end = from === '' || to === '' ? size - 1 : Math.min(Number(to), size - 1)
  // A range that runs backwards is no range.
  if (from !== '' && to !== '' && Number(to) < Number(from)) return undefined
  if (start >= size) throw new Failure('file.range', `The file has ${size} bytes; the range ${header} is not in it.`)
  return { start, end }
}
