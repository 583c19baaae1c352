// Versions of programs, and which of them have known escapes.

/** The numbers of a version: `1.1.5+ds1` is 1, 1, 5. */
export function parseVersion(text: string): readonly number[] {
  const [numbers = ''] = /\d+(\.\d+)*/.exec(text) ?? []
  return numbers === '' ? [] : numbers.split('.').map(Number)
}

/** Whether a version is older than another; a shorter one is filled with zeros. */
export function isOlder(version: readonly number[], than: readonly number[]): boolean {
  for (let at = 0; at < Math.max(version.length, than.length); at++) {
    const difference = (version[at] ?? 0) - (than[at] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}

interface Escape {
  readonly cves: readonly string[]
  /** The first good version of each maintained line, oldest line first. Lines after the last one are good. */
  readonly goodFrom: readonly (readonly number[])[]
}

const runcEscapes: readonly Escape[] = [
  { cves: ['CVE-2024-21626'], goodFrom: [[1, 1, 12]] },
  {
    cves: ['CVE-2025-31133', 'CVE-2025-52565', 'CVE-2025-52881'],
    goodFrom: [
      [1, 2, 8],
      [1, 3, 3],
    ],
  },
]

/** Escapes that the upstream release of this number has. A distribution may have mended them under the same number. */
export function knownRuncEscapes(versionText: string): string[] {
  const version = parseVersion(versionText)
  if (version.length === 0) return []
  return runcEscapes.filter(({ goodFrom }) => !isGood(version, goodFrom)).flatMap(({ cves }) => cves)
}

function isGood(version: readonly number[], goodFrom: readonly (readonly number[])[]): boolean {
  const line = goodFrom.find((good) => good[0] === version[0] && good[1] === version[1])
  if (line) return !isOlder(version, line)
  const newest = goodFrom.at(-1) ?? []
  return !isOlder(version, newest)
}
