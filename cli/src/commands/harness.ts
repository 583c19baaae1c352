import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { Failure } from '@atoll/sdk'
import type { Command } from 'commander'
import { type GlobalOptions, stateDir } from '../client.ts'
import { example } from '../example.ts'
import { note, print, printJson, table } from '../print.ts'

const installer = fileURLToPath(new URL('../../../sidecar/harnesses/main.ts', import.meta.url))

interface Listed {
  readonly id: string
  readonly version: string
  readonly installed: boolean
}

export function addHarness(program: Command): void {
  const harness = program.command('harness').description('Coding agents for the namespace sandboxes of this machine.')
  harness
    .command('list')
    .description('List what can be installed, and what is.')
    .addHelpText('after', example('atoll harness list'))
    .action((_, command: Command) => list(command.optsWithGlobals()))
  harness
    .command('install')
    .description('Install coding agents from npm, in the pinned versions, and prove that each of them works.')
    .argument('<ids...>', 'from `atoll harness list`, or all')
    .addHelpText('after', example('atoll harness install codex', 'atoll harness install all'))
    .action((ids: string[], _, command: Command) => install(ids, command.optsWithGlobals()))
}

const folder = (): string => path.join(stateDir(), 'harnesses')

/** Runs a program and answers what it wrote; what it says meanwhile goes to standard error. */
async function run(program: string, args: readonly string[], onLine?: (line: string) => void): Promise<{ code: number; output: string }> {
  if (!existsSync(program)) {
    throw new Failure('config.invalid', `The installer is not here (${program}). Run this command from a copy of the whole repository.`)
  }
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const forward = (signal: NodeJS.Signals): void => void child.kill(signal)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, forward)
  child.stdout.setEncoding('utf8')
  if (onLine) child.stdout.on('data', (lines: string) => onLine(lines.trimEnd()))
  const [[code], output] = await Promise.all([once(child, 'close'), onLine ? '' : text(child.stdout)])
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, forward)
  return { code: typeof code === 'number' ? code : 1, output }
}

async function list({ json }: GlobalOptions): Promise<void> {
  const { code, output } = await run(installer, ['list', '--folder', folder()])
  if (code !== 0) throw new Failure('internal', 'The harnesses could not be listed; the reason stands above.')
  const all: Listed[] = JSON.parse(output)
  if (json) printJson(all)
  else
    print(
      table(
        ['ID', 'VERSION', 'INSTALLED'],
        all.map((one) => [one.id, one.version, one.installed ? 'yes' : 'no']),
      ),
    )
}

async function install(ids: readonly string[], { json }: GlobalOptions): Promise<void> {
  // As the operator makes it: passed through by anybody, listed by nobody.
  mkdirSync(stateDir(), { recursive: true, mode: 0o711 })
  const installed = await run(installer, ['install', ...ids, '--folder', folder()], note)
  if (installed.code !== 0)
    throw new Failure('config.invalid', 'Not everything could be installed; the reason stands above. Nothing half-made is left.')
  note('Running each of them once…')
  const verifier = path.join(folder(), 'verify/harnesses/verify.ts')
  const proof = await run(verifier, [
    '--folder',
    folder(),
    '--manifest',
    path.join(folder(), 'harnesses.json'),
    ...(json ? ['--json'] : []),
  ])
  process.stdout.write(proof.output)
  if (proof.code !== 0) throw new Failure('internal', 'Not every harness works on this machine; the table says which.')
}
