/** The last words of a container without the engine's framing: eight bytes before each chunk, the length in the last four. */
export function logText(log: Buffer): string {
  const chunks: Buffer[] = []
  let at = 0
  while (at + 8 <= log.length) {
    const length = log.readUInt32BE(at + 4)
    chunks.push(log.subarray(at + 8, at + 8 + length))
    at += 8 + length
  }
  return Buffer.concat(chunks).toString('utf8').trim().slice(-2000)
}
