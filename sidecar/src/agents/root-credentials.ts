// Credentials that whoever made the image put where its programs looked for them as root. Harnesses run as the user, so the user gets a copy.
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import type { FilesClient } from '../files/client.ts'
import { describe, type Log } from '../log.ts'

/** Customary places, in root's home as in the user's. */
const places = ['.claude', '.claude.json', '.codex', '.config/opencode', '.opencode', '.kimi', '.kimi-code', '.config/kimi', '.gemini']
const maxFiles = 200
const maxFileBytes = 1024 * 1024

export interface RootCredentialsParts {
  /** Root's home in the sandbox. */
  readonly rootHome: string
  readonly home: string
  readonly files: Pick<FilesClient, 'isThere' | 'writePrivateFile'>
  readonly log: Log
}

/** Plain files below a place, as ways from root's home. Links are not followed. */
function filesBelow(rootHome: string, place: string): string[] {
  const stats = lstatSync(path.join(rootHome, place), { throwIfNoEntry: false })
  if (stats?.isFile()) return stats.size <= maxFileBytes ? [place] : []
  if (!stats?.isDirectory()) return []
  return readdirSync(path.join(rootHome, place)).flatMap((name) => filesBelow(rootHome, path.join(place, name)))
}

/** Copies what the user has nothing of, each file for the user alone. What the user has stays as it is. */
export async function adoptRootCredentials({ rootHome, home, files, log }: RootCredentialsParts): Promise<void> {
  for (const place of places) {
    try {
      const found = filesBelow(rootHome, place).slice(0, maxFiles)
      if (found.length === 0 || (await files.isThere(path.join(home, place)))) continue
      for (const file of found) await files.writePrivateFile(path.join(home, file), readFileSync(path.join(rootHome, file), 'utf8'))
      log('info', `the user got ${place} from ${rootHome}`)
    } catch (error) {
      log('warn', `${place} of ${rootHome} could not be given to the user`, describe(error))
    }
  }
}
