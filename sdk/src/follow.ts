// Event streams that outlive their connection: each reconnect goes on after the last event that was read.
import { Failure, type Route, type RouteInput, type RouteOutput } from '@atoll/protocol'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import type { Connection } from './connection.ts'
import { ConnectionFailure } from './connection-failure.ts'
import { sleep } from './sleep.ts'

/** The operator sends a sign of life every 10 s; a stream that is silent this long is dead. */
const silenceMs = 45_000
/** How long a stream may be without a connection, for example while the operator restarts. */
const defaultPatienceMs = 60_000
const firstPauseMs = 100
const maxPauseMs = 2000
/** A connection that lived this long was a good one, even when nothing happened on it. */
const steadyMs = 5000

export interface FollowOptions<Event> {
  /** Number of the last event that the reader has; undefined: from the start of what is kept. */
  readonly cursor?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Milliseconds without a connection after which reading fails; 60 000 when not given. */
  readonly patienceMs?: number | undefined
  /** Whether a stream that ends after this event is complete. Without it, a stream only ends by its reader. */
  readonly isLast?: (event: Event) => boolean
  /** Called when a connection was lost and is open again. */
  readonly onReconnect?: () => Event | undefined
}

/** One event and its number, where it has one. */
export interface Followed<Event> {
  readonly event: Event
  readonly cursor: number | undefined
}

type FollowInput<R extends Route> = RouteInput<R> & { readonly query?: Readonly<Record<string, unknown>> }

/**
 * Reads the events of a route until the last one, the reader's leaving, or a failure. No event is lost or repeated over reconnects.
 * @throws Failure when the operator refuses for good; ConnectionFailure when it cannot be reached within the patience
 */
export async function* follow<R extends Route>(
  connection: Connection,
  route: R,
  input: FollowInput<R>,
  options: FollowOptions<RouteOutput<R>>,
): AsyncGenerator<Followed<RouteOutput<R>>> {
  const patience = new Patience(options.patienceMs ?? defaultPatienceMs)
  const reader = new FeedReader({ connection, route, input, options, patience })
  while (!reader.isComplete) {
    try {
      yield* reader.readOnce()
    } catch (error) {
      options.signal?.throwIfAborted()
      // A feed that was never reached is a wrong address; a process or terminal is known to be there, so that is waited for.
      if (!isPassing(error) || patience.isOver() || !(reader.wasConnected || options.isLast)) throw error
    }
    if (!reader.isComplete) await sleep(patience.pauseMs(), options.signal)
  }
}

interface FeedReaderParts<R extends Route> {
  readonly connection: Connection
  readonly route: R
  readonly input: FollowInput<R>
  readonly options: FollowOptions<RouteOutput<R>>
  readonly patience: Patience
}

/** One reader of a feed over all its connections. */
class FeedReader<R extends Route> {
  readonly #parts: FeedReaderParts<R>
  #cursor: number | undefined
  #wasConnected = false
  #isComplete = false

  constructor(parts: FeedReaderParts<R>) {
    this.#parts = parts
    this.#cursor = parts.options.cursor
  }

  get wasConnected(): boolean {
    return this.#wasConnected
  }

  get isComplete(): boolean {
    return this.#isComplete
  }

  /** Reads one connection to its end. @throws ConnectionFailure when it breaks, or ends before a last event that must come */
  async *readOnce(): AsyncGenerator<Followed<RouteOutput<R>>> {
    const { connection, options, patience } = this.#parts
    const response = await this.#open()
    patience.connected()
    const again = this.#wasConnected ? options.onReconnect?.() : undefined
    this.#wasConnected = true
    if (again !== undefined) yield { event: again, cursor: undefined }
    for await (const message of messagesOf(response, connection.url)) {
      patience.progressed()
      const followed = this.#take(message)
      if (followed === undefined) continue
      yield followed
      if (options.isLast?.(followed.event)) {
        this.#isComplete = true
        return
      }
    }
    if (options.isLast) throw new ConnectionFailure(connection.url, new Error('the stream ended before its last event'))
  }

  #open(): Promise<Response> {
    const { connection, route, input, options } = this.#parts
    const query = { ...input.query, ...(this.#cursor !== undefined && { cursor: this.#cursor }) }
    return connection.openOnce(route, { ...input, query }, { signal: options.signal, headers: { accept: 'text/event-stream' } })
  }

  /** The event in a message; undefined when the reader has it already. */
  #take(message: EventSourceMessage): Followed<RouteOutput<R>> | undefined {
    const number = message.id === undefined ? undefined : Number(message.id)
    if (number !== undefined && this.#cursor !== undefined && number <= this.#cursor) return undefined
    this.#cursor = number ?? this.#cursor
    return { event: parsed(this.#parts.route, message), cursor: number }
  }
}

/** How long to go on without a connection. One that lived a while, or brought an event, starts the patience anew. */
class Patience {
  readonly #limitMs: number
  #brokenAt: number | undefined
  #connectedAt: number | undefined
  #pauseMs = firstPauseMs

  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  connected(): void {
    this.#connectedAt = Date.now()
  }

  progressed(): void {
    this.#brokenAt = undefined
    this.#pauseMs = firstPauseMs
  }

  /** Called at each break. */
  isOver(): boolean {
    if (this.#connectedAt !== undefined && Date.now() - this.#connectedAt > steadyMs) this.progressed()
    this.#connectedAt = undefined
    this.#brokenAt ??= Date.now()
    return Date.now() - this.#brokenAt > this.#limitMs
  }

  pauseMs(): number {
    const pauseMs = this.#pauseMs
    this.#pauseMs = Math.min(pauseMs * 2, maxPauseMs)
    return pauseMs
  }
}

/** What a restart of the operator or a lost connection looks like; anything else is an answer. */
const isPassing = (error: unknown): boolean =>
  error instanceof ConnectionFailure ||
  (error instanceof Failure && (error.code === 'request.rate_limited' || [502, 503, 504].includes(error.status)))

function parsed<R extends Route>(route: R, { data }: EventSourceMessage): RouteOutput<R> {
  try {
    // The route's own schema made it, so it is the route's output.
    return route.response?.parse(JSON.parse(data)) as RouteOutput<R>
  } catch (cause) {
    throw new Failure('internal', `The operator sent an event of ${route.path} in a form that this client does not know.`, { cause })
  }
}

async function* messagesOf(response: Response, url: string): AsyncGenerator<EventSourceMessage> {
  if (!response.body) return
  const reader = response.body.getReader()
  const decoder = new TextDecoder()
  let messages: EventSourceMessage[] = []
  const parser = createParser({ onEvent: (message) => messages.push(message) })
  try {
    for (;;) {
      const { done, value } = await nextChunk(reader, url)
      if (done) return
      parser.feed(decoder.decode(value, { stream: true }))
      yield* messages
      messages = []
    }
  } finally {
    // Closes the connection when the reader leaves early; a connection that is broken already has nothing to close.
    await reader.cancel().catch(() => undefined)
  }
}

async function nextChunk(reader: ReadableStreamDefaultReader<Uint8Array>, url: string): Promise<ReadableStreamReadResult<Uint8Array>> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ConnectionFailure(url, new Error('the stream went silent'))), silenceMs)
  })
  try {
    return await Promise.race([reader.read(), silence])
  } catch (error) {
    throw error instanceof ConnectionFailure ? error : new ConnectionFailure(url, error)
  } finally {
    clearTimeout(timer)
  }
}
