// Installs harnesses: `main.ts install [codex,gemini] --folder F`; `main.ts list --folder F`; `main.ts download --downloads F`.
import { parseArgs } from 'node:util'
import { catalogue, findHarness } from './catalogue.ts'
import { install, readClaims } from './install.ts'
import { fetchTarball } from './tarball.ts'
import { harnessParts, partsFor, pinnedVersion } from './versions.ts'

const usage = `usage: main.ts install|download|list [ID,ID… | all] [--folder FOLDER] [--downloads FOLDER]`

class UsageError extends Error {}

/** Ids and other names of harnesses, parted by commas or as several words; all of them when there are none. */
function idsOf(words: readonly string[]): readonly string[] {
  const names = words.flatMap((word) => word.split(',')).filter(Boolean)
  if (names.length === 0 || names.includes('all')) return catalogue.map(({ id }) => id)
  return names.map((name) => {
    const harness = findHarness(name.trim())
    if (!harness) throw new UsageError(`There is no harness ${name}. There are ${catalogue.map(({ id }) => id).join(', ')}.`)
    return harness.id
  })
}

const say = (line: string): void => void process.stdout.write(`${line}\n`)

async function list(folder: string): Promise<void> {
  const claims = await readClaims(folder)
  const all = harnessParts.map((part) => ({ id: part.id, version: pinnedVersion(part), installed: claims.includes(part.id) }))
  say(JSON.stringify(all))
}

async function download(ids: readonly string[], downloads: string): Promise<void> {
  for (const wanted of partsFor(ids).flatMap(({ packages }) => packages)) say(await fetchTarball(wanted, downloads, interrupt.signal))
}

function required(value: string | undefined, option: string): string {
  if (!value) throw new UsageError(`${option} is missing.\n${usage}`)
  return value
}

async function main(): Promise<void> {
  const options = { folder: { type: 'string' }, downloads: { type: 'string' } } as const
  const { positionals, values } = parseArgs({ allowPositionals: true, options })
  const [verb, ...words] = positionals
  const ids = idsOf(words)
  if (verb === 'list') await list(required(values.folder, '--folder'))
  else if (verb === 'download') await download(ids, required(values.downloads, '--downloads'))
  else if (verb === 'install') {
    await install({
      ids,
      folder: required(values.folder, '--folder'),
      downloads: values.downloads,
      onProgress: say,
      signal: interrupt.signal,
    })
  } else throw new UsageError(usage)
}

const interrupt = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => interrupt.abort(new Error(`Stopped by ${signal}.`)))
// Every user of a sandbox reads what is installed.
process.umask(0o022)

try {
  await main()
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = error instanceof UsageError ? 2 : 1
}
