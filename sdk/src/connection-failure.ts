/** The operator could not be reached, or the connection broke off. Nothing is known about what it did with the call. */
export class ConnectionFailure extends Error {
  readonly code = 'operator.unreachable'
  /** The address that was tried. */
  readonly url: string

  constructor(url: string, cause: unknown) {
    super(`${reasonOf(url, cause)} Check the address (ATOLL_URL, or the url option), and that the operator runs.`, { cause })
    this.name = 'ConnectionFailure'
    this.url = url
  }

  toJSON(): { error: string; code: string } {
    return { error: this.message, code: this.code }
  }

  /** Nobody listens there, so the call was not made at all. */
  get isRefused(): boolean {
    return systemCode(this.cause) === 'ECONNREFUSED'
  }
}

/** The system's own code for what went wrong (`ECONNRESET`), which fetch hides under one or two causes. */
function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  if ('code' in error && typeof error.code === 'string') return error.code
  return systemCode(error.cause)
}

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ENOTFOUND: 'the name is unknown',
  EAI_AGAIN: 'the name cannot be looked up',
  ECONNRESET: 'the connection was reset',
  UND_ERR_SOCKET: 'the connection was closed',
  UND_ERR_HEADERS_TIMEOUT: 'no answer came in time',
  UND_ERR_CONNECT_TIMEOUT: 'no connection came about in time',
}

function reasonOf(url: string, cause: unknown): string {
  const code = systemCode(cause)
  const detail = (code && reasons[code]) ?? code ?? deepest(cause)
  return `No answer from the operator at ${url}: ${detail}.`
}

/** fetch itself only says that it failed; the reason lies in its cause. */
function deepest(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? deepest(error.cause) : error.message
}
