// Turns a stream's chunks into events: text where the bytes are UTF-8, base64 where they are not, and never half a character.
import { isUtf8 } from 'node:buffer'
import { completeLength } from '../utf8.ts'

export type Piece = { readonly text: string } | { readonly base64: string }

/** The beginning of a character is waited for so long; a program that writes bytes and waits for an answer must not hang. */
const holdMs = 100

export class Output {
  readonly #emit: (piece: Piece) => void
  #held: Buffer | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(emit: (piece: Piece) => void) {
    this.#emit = emit
  }

  push(chunk: Buffer): void {
    clearTimeout(this.#timer)
    const bytes = this.#held ? Buffer.concat([this.#held, chunk]) : chunk
    const length = completeLength(bytes)
    const whole = bytes.subarray(0, length)
    if (!isUtf8(whole)) {
      this.#held = undefined
      this.#emit({ base64: bytes.toString('base64') })
      return
    }
    this.#held = length < bytes.length ? Buffer.from(bytes.subarray(length)) : undefined
    if (length > 0) this.#emit({ text: whole.toString('utf8') })
    if (this.#held) this.#timer = setTimeout(() => this.flush(), holdMs)
  }

  /** Gives out what is held back. */
  flush(): void {
    clearTimeout(this.#timer)
    const held = this.#held
    this.#held = undefined
    if (held) this.#emit({ base64: held.toString('base64') })
  }
}
