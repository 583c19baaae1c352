// One side of a copy.

export interface LocalPlace {
  readonly path: string
}
export interface SandboxPlace extends LocalPlace {
  readonly sandbox: string
}
export type Place = LocalPlace | SandboxPlace

export interface Copied {
  readonly files: number
  readonly bytes: number
}

/** `demo:src` is in a sandbox; whatever has a slash before its colon, or none, is here. An empty path is the workspace. */
export function placeOf(text: string): Place {
  const [, sandbox, path] = /^([^:/.][^:/]*):(.*)$/s.exec(text) ?? []
  return sandbox === undefined || path === undefined ? { path: text } : { sandbox, path: path === '' ? '.' : path }
}

export const isSandboxPlace = (place: Place): place is SandboxPlace => 'sandbox' in place

export const standardStream = '-'

/** Runs the work over the items, a few at a time. The first failure ends it. */
export async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>, lanes = 4): Promise<void> {
  const rest = items.values()
  const lane = async (): Promise<void> => {
    for (const item of rest) await work(item)
  }
  await Promise.all(Array.from({ length: lanes }, lane))
}
