// What a client takes from its environment, where there is one: browsers have none.

const defaultUrl = 'http://127.0.0.1:9090'

interface Host {
  readonly process?: { readonly env?: Readonly<Record<string, string | undefined>> }
}

/** Where the operator is and who asks: what was given, else `ATOLL_URL` and `ATOLL_API_KEY`, else this machine without a key. */
export function clientConfig(given: { url?: string | undefined; apiKey?: string | undefined }): {
  url: string
  apiKey: string | undefined
} {
  const host: Host = globalThis
  const env = host.process?.env ?? {}
  const url = given.url || env['ATOLL_URL'] || defaultUrl
  return { url: url.replace(/\/+$/, ''), apiKey: given.apiKey || env['ATOLL_API_KEY'] || undefined }
}
