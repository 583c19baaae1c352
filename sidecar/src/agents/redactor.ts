// Takes credentials out of what is told of a run.

/** Shorter values are no secrets, and would be found everywhere. */
const minLength = 8
const mark = '[secret]'

/** How long the end of the text is that may be the beginning of the secret. */
function begunLength(text: string, secret: string): number {
  for (let length = Math.min(secret.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(secret.slice(0, length))) return length
  }
  return 0
}

export class Redactor {
  readonly #secrets: readonly string[]
  readonly #held = new Map<string, string>()

  constructor(values: Iterable<string>) {
    const all = [...new Set(values)].filter((value) => value.length >= minLength)
    // The longest first, because one may be a part of another.
    this.#secrets = all.sort((a, b) => b.length - a.length)
  }

  text(text: string): string {
    return this.#secrets.reduce((rest, secret) => rest.replaceAll(secret, mark), text)
  }

  /** Every text in a value. */
  value(value: unknown): unknown {
    if (this.#secrets.length === 0) return value
    if (typeof value === 'string') return this.text(value)
    if (Array.isArray(value)) return value.map((one) => this.value(one))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [this.text(name), this.value(one)]))
  }

  /** A piece of a text that comes in pieces: what may be the beginning of a secret is held back until the next one. */
  piece(stream: string, piece: string): string {
    if (this.#secrets.length === 0) return piece
    const text = this.text(`${this.#held.get(stream) ?? ''}${piece}`)
    const held = Math.max(...this.#secrets.map((secret) => begunLength(text, secret)))
    this.#held.set(stream, text.slice(text.length - held))
    return text.slice(0, text.length - held)
  }

  /** The text has ended, or begins anew. */
  forget(stream: string): void {
    this.#held.delete(stream)
  }
}
