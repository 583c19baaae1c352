// `atoll harness`: coding agents for the namespace sandboxes of a machine.
import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { atoll } from '../cli/tests/atoll.ts'
import { manifest } from '../sidecar/harnesses/manifest.ts'

let base = ''
let stateDir = ''
before(() => {
  base = mkdtempSync(path.join(os.tmpdir(), 'atoll-harness-'))
  chmodSync(base, 0o755)
  stateDir = path.join(base, 'state')
})
after(() => rmSync(base, { recursive: true, force: true }))

/** How this machine reaches npm. */
const reaching = ['NODE_EXTRA_CA_CERTS', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'npm_config_registry']
const environment = (): Record<string, string> => ({
  ...Object.fromEntries(reaching.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : []))),
  ATOLL_STATE_DIR: stateDir,
})

const harness = (...words: readonly string[]) => atoll(['harness', ...words], { env: environment() })

test('a harness is installed with progress, proven, listed, and not fetched twice', { timeout: 300_000 }, async () => {
  const first = await harness('install', 'kimi')
  assert.equal(first.code, 0, first.stderr)
  assert.match(first.stderr, /kimi-code: fetching @moonshot-ai\/kimi-code@.*\nkimi-code: \d+ MB\n/)
  assert.match(first.text, /kimi-code .*works\n/)
  assert.equal(statSync(stateDir).mode & 0o777, 0o711)

  const listed = await harness('list')
  assert.match(listed.text, /^kimi-code +[\d.]+ +yes$/m)
  assert.match(listed.text, /^codex +[\d.]+ +no$/m)

  const again = await harness('install', 'kimi-code', '--json')
  assert.equal(again.code, 0, again.stderr)
  assert.match(again.stderr, /kimi-code: \d+ MB, was there already/)
  assert.doesNotMatch(again.stderr, /fetching/)
  const report = JSON.parse(again.text)
  assert.deepEqual(
    manifest.parse(report.manifest).harnesses.map(({ id }) => id),
    ['kimi-code'],
  )
})

test('a harness that does not exist is refused before anything is fetched', async () => {
  const { code, stderr } = await harness('install', 'codex', 'nobody')
  assert.equal(code, 1)
  assert.match(stderr, /There is no harness nobody\. There are claude-code, codex/)
  assert.doesNotMatch(stderr, /fetching/)
})

test('an installation that is stopped leaves what there was', { timeout: 60_000 }, async () => {
  const folder = path.join(stateDir, 'harnesses')
  const before = readdirSync(folder).sort()
  const { code, stderr } = await atoll(['harness', 'install', 'codex'], {
    env: environment(),
    onStart: (child) => child.stderr?.on('data', (said) => String(said).includes('codex: fetching') && child.kill('SIGTERM')),
  })
  assert.equal(code, 1)
  assert.match(stderr, /Stopped by SIGTERM/)
  assert.deepEqual(
    readdirSync(folder).filter((name) => name !== 'ripgrep'),
    before,
  )
})
