// The proof is not fooled: programs that only look like a harness are found out, and none of them is left running.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, test } from 'node:test'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'harness-verify-'))
  mkdirSync(path.join(folder, 'bin'))
  chmodSync(folder, 0o755)
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** A program in the place of codex; the folder claims codex alone. */
function pretend(script: string): void {
  writeFileSync(path.join(folder, 'bin/codex'), `#!/bin/sh\n[ "$1" = --version ] && echo 'codex 9.9.9' && exit 0\n${script}\n`, {
    mode: 0o755,
  })
  writeFileSync(path.join(folder, 'claims.json'), '["codex"]')
}

interface Proof {
  readonly code: number
  readonly output: string
  readonly manifest: unknown
}

async function verify(...more: readonly string[]): Promise<Proof> {
  const manifest = path.join(folder, 'harnesses.json')
  const argv = [path.join(import.meta.dirname, 'verify.ts'), '--folder', folder, '--manifest', manifest, ...more]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
  return { code, output: stdout + stderr, manifest: JSON.parse(readFileSync(manifest, 'utf8')) }
}

const nothingWorks = { generation: 1, harnesses: [] }

test('a program that ends well without having asked the model is not believed', async () => {
  pretend('echo "The proof is written."; exit 0')
  const { code, output, manifest } = await verify()
  assert.equal(code, 1)
  assert.match(output, /codex .*9\.9\.9 .*a turn never asked the model/)
  assert.deepEqual(manifest, nothingWorks)
})

test('a program that asks the model and writes nothing is not believed', async () => {
  pretend(`url=$(sed -n 's/^base_url = "\\(.*\\)"/\\1/p' ~/.codex/config.toml)
curl -s "$url/responses" -d '{"input":"[[plan:text]]"}' > /dev/null; echo "The proof is written."`)
  const { code, output } = await verify()
  assert.equal(code, 1)
  assert.match(output, /a turn wrote no file/)
})

test('a program that fails is quoted', async () => {
  pretend('echo "my license has expired" >&2; exit 7')
  const { code, output } = await verify()
  assert.equal(code, 1)
  assert.match(output, /a turn exited with 7: my license has expired/)
})

const commandLines = (): string[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      } catch {
        return ''
      }
    })

test('a program that hangs is ended with its children', async () => {
  pretend('sleep 987654 & sleep 987654')
  const { code, output } = await verify('--timeout', '2')
  assert.equal(code, 1)
  assert.match(output, /a turn was not done after 2 s/)
  assert.deepEqual(
    commandLines().filter((line) => line.includes('987654')),
    [],
  )
})

test('a claim that nobody can run, and a folder without claims, are failures', async () => {
  writeFileSync(path.join(folder, 'claims.json'), '["no-such-harness"]')
  const unknown = await verify()
  assert.equal(unknown.code, 1)
  assert.match(unknown.output, /no-such-harness .*nobody knows how to run it/)
  rmSync(path.join(folder, 'claims.json'))
  const none = await verify()
  assert.equal(none.code, 1)
  assert.match(none.output, /No harness is claimed/)
})
