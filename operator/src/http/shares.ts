import { Failure } from '@atoll/protocol'

/** Lets no owner have more than a part of the requests in flight, so that whoever waits for many long ones leaves room for the others. */
export class Shares {
  readonly #most: number
  readonly #inFlight = new Map<string, number>()

  constructor(options: { readonly most: number }) {
    this.#most = options.most
  }

  /**
   * Counts a request until the answer is called.
   * @throws Failure `request.busy`
   */
  enter(owner: string): () => void {
    const count = (this.#inFlight.get(owner) ?? 0) + 1
    if (count > this.#most) {
      throw new Failure(
        'request.busy',
        `You have ${this.#most} requests in flight already. Wait for one, or start long commands as processes.`,
        {
          status: 429,
          retryAfterMs: 1000,
        },
      )
    }
    this.#inFlight.set(owner, count)
    let isCounted = true
    return () => {
      if (!isCounted) return
      isCounted = false
      const left = (this.#inFlight.get(owner) ?? 1) - 1
      if (left > 0) this.#inFlight.set(owner, left)
      else this.#inFlight.delete(owner)
    }
  }
}

const everyone = 'everyone'

/** The same for requests without a credential whose body is awaited: of one client address, and of all of them together. */
export class Strangers {
  readonly #each: Shares
  readonly #all: Shares

  constructor({ maxRequests }: { readonly maxRequests: number }) {
    this.#each = new Shares({ most: Math.ceil(maxRequests / 8) })
    this.#all = new Shares({ most: Math.ceil(maxRequests / 2) })
  }

  /**
   * Counts a request until the answer is called.
   * @param client bucket of the client's address
   * @throws Failure `request.busy`
   */
  enter(client: string): () => void {
    const leave = this.#each.enter(client)
    try {
      const leaveAll = this.#all.enter(everyone)
      return () => {
        leave()
        leaveAll()
      }
    } catch (error) {
      leave()
      throw error
    }
  }
}
