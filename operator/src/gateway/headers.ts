// Headers of a message that is passed on, as they were sent: names in their spelling, in their order, repeated ones repeated.

/** Of one connection, not of the message (RFC 9110, 7.6.1), or between the sandbox and its proxy. */
const ofConnection = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'proxy-authenticate', 'proxy-authentication-info'],
  ...['te', 'trailer', 'upgrade', 'http2-settings'],
])

/** Of names and values, flat, as Node has them. */
export const pairsOf = (raw: readonly string[]): [string, string][] =>
  Array.from({ length: raw.length / 2 }, (_, index) => [raw[index * 2] ?? '', raw[index * 2 + 1] ?? ''])

/** Every value of a header, in order. */
export const valuesOf = (raw: readonly string[], name: string): string[] =>
  pairsOf(raw).flatMap(([one, value]) => (one.toLowerCase() === name ? [value] : []))

/** Names that the sender calls the connection's own; what frames a message cannot be made to vanish. */
function namedByConnection(raw: readonly string[]): Set<string> {
  const named = valuesOf(raw, 'connection').flatMap((value) => value.split(',').map((name) => name.trim().toLowerCase()))
  return new Set(named.filter((name) => !['host', 'content-length', 'transfer-encoding', 'authorization', 'cookie'].includes(name)))
}

/** Puts values in, in the place of what is there under their names. */
export const withValues = (raw: readonly string[], values: ReadonlyMap<string, string>): string[] => [
  ...pairsOf(raw)
    .filter(([name]) => !values.has(name.toLowerCase()))
    .flat(),
  ...[...values].flat(),
]

/** @param without more names, in small letters */
export function endToEnd(raw: readonly string[], without: readonly string[] = []): string[] {
  const named = namedByConnection(raw)
  return pairsOf(raw)
    .filter(([name]) => {
      const small = name.toLowerCase()
      return !ofConnection.has(small) && !named.has(small) && !without.includes(small)
    })
    .flat()
}
