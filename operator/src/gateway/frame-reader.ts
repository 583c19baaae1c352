// Text messages in what a WebSocket server sends (RFC 6455, section 5), which is neither masked nor, as asked for here, compressed.

/** Longer messages are passed over. */
const maxMessage = 4 * 1024 * 1024
const opcodes = { continuation: 0, text: 1 } as const

export class FrameReader {
  readonly #told: (text: string) => void
  #bytes: Buffer = Buffer.alloc(0)
  /** Of a frame that is passed over. */
  #toSkip = 0
  #message: Buffer[] | undefined
  #size = 0

  constructor(told: (text: string) => void) {
    this.#told = told
  }

  push(chunk: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk])
    for (;;) {
      const skipped = Math.min(this.#toSkip, this.#bytes.length)
      this.#toSkip -= skipped
      this.#bytes = this.#bytes.subarray(skipped)
      if (this.#toSkip > 0 || !this.#takeFrame()) return
    }
  }

  /** False when there is none yet. */
  #takeFrame(): boolean {
    const bytes = this.#bytes
    const header = headerOf(bytes)
    if (!header) return false
    const { opcode, isLast, start, length } = header
    const isText = opcode === opcodes.text || (opcode === opcodes.continuation && this.#message !== undefined)
    if (!isText || this.#size + length > maxMessage) {
      // A control frame may stand in the middle of a message; anything else ends what was read of one.
      if (opcode < 8) this.#forget()
      this.#bytes = bytes.subarray(start)
      this.#toSkip = length
      return true
    }
    if (bytes.length < start + length) return false
    this.#message = opcode === opcodes.text ? [] : (this.#message ?? [])
    if (length > 0) this.#message.push(bytes.subarray(start, start + length))
    this.#size += length
    this.#bytes = bytes.subarray(start + length)
    if (isLast) {
      const text = Buffer.concat(this.#message).toString('utf8')
      this.#forget()
      this.#told(text)
    }
    return true
  }

  #forget(): void {
    this.#message = undefined
    this.#size = 0
  }
}

interface FrameHeader {
  readonly opcode: number
  readonly isLast: boolean
  readonly start: number
  readonly length: number
}

function headerOf(bytes: Buffer): FrameHeader | undefined {
  const [first, second] = bytes
  if (first === undefined || second === undefined) return undefined
  const short = second & 0x7f
  const start = short === 126 ? 4 : short === 127 ? 10 : 2
  if (bytes.length < start) return undefined
  const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short
  return { opcode: first & 0x0f, isLast: (first & 0x80) !== 0, start, length }
}
