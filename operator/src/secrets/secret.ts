import { inspect } from 'node:util'

const hidden = '[secret]'

/** A value that must not be printed: every way of turning it into text gives `[secret]`; only `reveal` gives the value. */
export class Secret<T extends string | Uint8Array = string> {
  readonly #value: T

  constructor(value: T) {
    this.#value = value
  }

  reveal(): T {
    return this.#value
  }

  toString(): string {
    return hidden
  }

  toJSON(): string {
    return hidden
  }

  [inspect.custom](): string {
    return hidden
  }
}
