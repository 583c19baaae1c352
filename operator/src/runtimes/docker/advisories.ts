// Versions with published escapes. Distributions repair without raising a version, so these are warnings, never a refusal.

interface Advisory {
  readonly component: string
  /** First good version of each line of releases; the last one stands for everything after it. */
  readonly repaired: readonly string[]
  readonly names: string
}

const advisories: readonly Advisory[] = [
  { component: 'runc', repaired: ['1.1.12'], names: 'CVE-2024-21626' },
  { component: 'runc', repaired: ['1.2.8', '1.3.3', '1.4.0'], names: 'CVE-2025-31133, CVE-2025-52565, CVE-2025-52881' },
]

const numbers = (version: string): number[] => (/^v?(\d+)\.(\d+)\.(\d+)/.exec(version) ?? []).slice(1).map(Number)

function compare(a: readonly number[], b: readonly number[]): number {
  for (const [index, part] of a.entries()) {
    const difference = part - (b[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

function isRepaired(version: readonly number[], repaired: readonly string[]): boolean {
  const lines = repaired.map(numbers)
  const sameLine = lines.find(([major, minor]) => major === version[0] && minor === version[1])
  const needed = sameLine ?? (compare(version, lines[0] ?? []) < 0 ? lines[0] : lines.at(-1))
  return compare(version, needed ?? []) >= 0
}

/** `packaged` is the version that the distribution gave its package, when it is known. */
export function versionWarnings(component: string, version: string, packaged?: string): string[] {
  const parsed = numbers(version)
  if (parsed.length === 0) return []
  const open = advisories.filter((advisory) => advisory.component === component && !isRepaired(parsed, advisory.repaired))
  if (open.length === 0) return []
  const isDistribution = /[+~-](?:ds|deb|dfsg|ubuntu|\d+ubuntu)/.test(packaged ?? version)
  const hint = isDistribution ? 'unless its distribution repaired it: compare with its security tracker' : 'update it'
  const needed = open.at(-1)?.repaired[0]
  return [`warning: ${component} ${packaged ?? version} is older than ${needed} (${open.map(({ names }) => names).join(', ')}); ${hint}`]
}
