import { Failure } from '@atoll/protocol'

/**
 * Lets at most `parallel` creations run and at most `waiting` wait, in order. More are refused at once, so that a caller learns early
 * that the operator is full instead of waiting for a time-out.
 */
export class CreationQueue {
  readonly #parallel: number
  readonly #waiting: number
  readonly #queue: (() => void)[] = []
  #running = 0

  constructor(options: { parallel: number; waiting: number }) {
    this.#parallel = options.parallel
    this.#waiting = options.waiting
  }

  /** @throws Failure `capacity.queue_full` when one more would have to wait behind too many */
  assertRoom(): void {
    if (this.#running >= this.#parallel && this.#queue.length >= this.#waiting) {
      throw new Failure('capacity.queue_full', `${this.#queue.length} creations are waiting already. Try again in a moment.`, {
        retryAfterMs: 2000,
      })
    }
  }

  /** Runs `work` when its turn comes. */
  async run<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#running < this.#parallel) this.#running += 1
    else await new Promise<void>((resolve) => this.#queue.push(resolve))
    try {
      return await work()
    } finally {
      const next = this.#queue.shift()
      if (next) next()
      else this.#running -= 1
    }
  }
}
