// Proves the harnesses that a folder claims by running each: `verify.ts [--folder F] [--manifest FILE] [--timeout SECONDS] [--json] [ID…]`.
// Ends with 1 when one is missing or broken. What works is written to the manifest, where that may be written.
import { mkdir, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { findHarness } from './catalogue.ts'
import type { Harness } from './harness.ts'
import { readClaims } from './install.ts'
import type { Manifest, ManifestHarness } from './manifest.ts'
import { type Evidence, noExtension, probe } from './probe.ts'

interface Result extends Evidence {
  readonly id: string
  readonly harness: Harness | undefined
}

const isGood = ({ problem }: Result): boolean => problem === ''

function described(harness: Harness, { version, extensions }: Evidence): ManifestHarness {
  return {
    id: harness.id,
    label: harness.label,
    version,
    command: harness.command,
    routes: [...harness.routes],
    ...extensions,
    models_api: harness.modelsApi,
    credential_locations: [...harness.credentialLocations],
    credential_env: [...harness.credentialEnv],
  }
}

const manifestOf = (results: readonly Result[]): Manifest => ({
  generation: 1,
  harnesses: results.flatMap((result) => (result.harness && isGood(result) ? [described(result.harness, result)] : [])),
})

/** @returns why it could not be written, or undefined. */
async function writeManifest(file: string, manifest: Manifest): Promise<string | undefined> {
  const draft = `${file}.${process.pid}`
  try {
    await mkdir(path.dirname(file), { recursive: true })
    await writeFile(draft, `${JSON.stringify(manifest, undefined, 2)}\n`, { mode: 0o644 })
    await rename(draft, file)
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

function table(results: readonly Result[]): string {
  const yes = (is: boolean): string => (is ? 'yes' : 'no')
  const rows = results.map(({ id, version, problem, extensions: { mcp, skills, subagents }, elapsedMs }) => [
    ...[id, version || '-', yes(mcp), yes(skills), yes(subagents), `${elapsedMs} ms`, problem || 'works'],
  ])
  const all = [['HARNESS', 'VERSION', 'MCP', 'SKILLS', 'SUBAGENTS', 'TIME', 'RESULT'], ...rows]
  const widths = [0, 1, 2, 3, 4, 5].map((column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')).join('\n')
}

async function verify(id: string, bin: string, timeoutMs: number): Promise<Result> {
  const harness = findHarness(id)
  if (!harness)
    return { id, harness, version: '', problem: 'is claimed, and nobody knows how to run it', extensions: noExtension, elapsedMs: 0 }
  return { id, harness, ...(await probe(harness, { bin, timeoutMs })) }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      folder: { type: 'string', default: '/opt/harnesses' },
      manifest: { type: 'string', default: '/etc/atoll/harnesses.json' },
      timeout: { type: 'string', default: '60' },
      json: { type: 'boolean', default: false },
    },
  })
  const ids = positionals.length > 0 ? positionals : await readClaims(values.folder)
  const results: Result[] = []
  // One after the other: each shall have the machine's whole attention, and its time be its own.
  for (const id of ids) results.push(await verify(id, path.join(values.folder, 'bin'), Number(values.timeout) * 1000))
  const manifest = manifestOf(results)
  // A part of the claims proves nothing about the others.
  const refusal = positionals.length > 0 ? 'only some were asked for' : await writeManifest(values.manifest, manifest)
  if (values.json) {
    const harnesses = results.map(({ harness: _, ...result }) => ({ ...result, works: result.problem === '' }))
    process.stdout.write(`${JSON.stringify({ harnesses, manifest, manifest_written: refusal === undefined })}\n`)
  } else {
    process.stdout.write(`${table(results)}\n`)
    if (refusal) process.stderr.write(`The manifest ${values.manifest} was not written: ${refusal}\n`)
  }
  if (ids.length === 0) process.stderr.write(`No harness is claimed in ${values.folder}.\n`)
  if (ids.length === 0 || !results.every(isGood)) process.exitCode = 1
}

await main()
