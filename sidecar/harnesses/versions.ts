// What can be installed, exactly: versions.json names every package with its version and hash.
import versions from './versions.json' with { type: 'json' }

export interface PinnedPackage {
  /** On npm. */
  readonly name: string
  readonly version: string
  /** SHA-512 of the tarball, as npm writes it. */
  readonly integrity: string
  /** Folder in the part; the part itself when absent. */
  readonly into?: string
  /** Of the package, only these; everything when absent. */
  readonly keep?: readonly string[]
  readonly drop?: readonly string[]
}

/** A harness, or a tool that harnesses need. */
export interface Part {
  readonly id: string
  /** Its name on PATH. */
  readonly command: string
  /** The file that is run: a program, or for a part that needs node a script. */
  readonly entry: string
  /** Ids of tools. */
  readonly needs: readonly string[]
  readonly packages: readonly PinnedPackage[]
}

/** The only platform whose packages are pinned. */
export const platform: string = versions.platform

type Parts = Readonly<Record<string, Omit<Part, 'id'>>>

const partsOf = (parts: Parts): readonly Part[] => Object.entries(parts).map(([id, part]) => ({ id, ...part }))

export const harnessParts: readonly Part[] = partsOf(versions.harnesses)
const toolParts = partsOf(versions.tools)

/** What has to be there for these harnesses: tools first, nothing twice. The proof of every harness needs node. */
export function partsFor(ids: readonly string[]): readonly Part[] {
  const harnesses = harnessParts.filter(({ id }) => ids.includes(id))
  const needed = new Set(['node', ...harnesses.flatMap(({ needs }) => needs)])
  return [...toolParts.filter(({ id }) => needed.has(id)), ...harnesses]
}

/** Of a harness; a package for one platform may carry that in its version. */
export const pinnedVersion = ({ packages }: Part): string => packages[0]?.version.replace(`-${platform}`, '') ?? ''
