// Finds planted values in bytes, also encoded, and also where only a part of one stands.

const shortestPiece = 10

/** Up to three parts that do not overlap: what is cut in two or three somewhere still has one of them whole. */
function piecesOf(text: string): string[] {
  const count = Math.min(3, Math.floor(text.length / shortestPiece))
  if (count === 0) throw new Error('a value to look for is too short')
  const length = Math.floor(text.length / count)
  return Array.from({ length: count }, (_, index) => text.slice(index * length, index === count - 1 ? undefined : (index + 1) * length))
}

/** As it stands in the base64 of a longer text, wherever it begins in it. */
function base64Of(piece: string): string[] {
  return [0, 1, 2].flatMap((offset) => {
    const bytes = Buffer.concat([Buffer.alloc(offset), Buffer.from(piece)])
    const whole = bytes.toString('base64').replaceAll('=', '')
    // The characters at both ends depend on what stands beside it.
    const inner = whole.slice(Math.ceil((offset * 4) / 3), Math.floor((bytes.length * 8) / 6))
    return [inner, inner.replaceAll('+', '-').replaceAll('/', '_')]
  })
}

const encodings: readonly ((piece: string) => string | string[])[] = [
  (piece) => piece,
  base64Of,
  (piece) => Buffer.from(piece).toString('hex'),
  (piece) => Buffer.from(piece).toString('hex').toUpperCase(),
  (piece) => encodeURIComponent(piece),
  (piece) => JSON.stringify(piece).slice(1, -1),
  (piece) => JSON.stringify(JSON.stringify(piece)).slice(3, -3),
]

interface Pattern {
  readonly name: string
  readonly bytes: Buffer
}

const headOf = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0)

const headBytes = 6

export class Needles {
  /** Whether any pattern has these three bytes first, or next: nearly everywhere none has, and no pattern is compared. */
  readonly #first = new Uint8Array(1 << 24)
  readonly #next = new Uint8Array(1 << 24)
  readonly #patterns = new Map<number, Pattern[]>()

  /** @param text what is only in this value: a prefix that many have would be found everywhere */
  add(name: string, text: string): void {
    const spellings = new Set(piecesOf(text).flatMap((piece) => encodings.flatMap((encoding) => encoding(piece))))
    for (const spelling of spellings) {
      const bytes = Buffer.from(spelling)
      const next = headOf(bytes, 3)
      this.#first[headOf(bytes, 0)] = 1
      this.#next[next] = 1
      this.#patterns.set(next, [...(this.#patterns.get(next) ?? []), { name, bytes }])
    }
  }

  find(bytes: Uint8Array): Set<string> {
    const found = new Set<string>()
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const [first, next] = [this.#first, this.#next]
    let [before, head] = [0, 0]
    for (let end = 1; end <= buffer.length; end += 1) {
      before = ((before << 8) | (head >> 16)) & 0xff_ffff
      head = ((head << 8) | (buffer[end - 1] ?? 0)) & 0xff_ffff
      if (next[head] === 0 || first[before] === 0 || end < headBytes) continue
      const at = end - headBytes
      for (const { name, bytes: pattern } of this.#patterns.get(head) ?? []) {
        if (buffer.compare(pattern, 0, pattern.length, at, Math.min(buffer.length, at + pattern.length)) === 0) found.add(name)
      }
    }
    return found
  }
}
