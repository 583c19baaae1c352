// The image with coding agents: made by the command in the docs, and true about itself.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manifest } from '../sidecar/harnesses/manifest.ts'
import { harnessParts, pinnedVersion } from '../sidecar/harnesses/versions.ts'
import { engine, harnessImage, inImage } from './harness-image.ts'
import { testRuntimes } from './runtimes.ts'

const skip = testRuntimes.find(({ name }) => name === 'docker')?.skip ?? 'no engine'
const largestBytes = 1.6e9
const buildTimeout = { skip, timeout: 900_000 }
const ids = harnessParts.map(({ id }) => id)

const proof = (image: string) => engine('run', '--rm', '--network', 'none', '--entrypoint', 'blueprint-verify-harnesses', image)
const manifestIn = async (image: string) => manifest.parse(JSON.parse((await inImage(image, 'cat /etc/atoll/harnesses.json')).stdout))

test('every harness of the image takes a turn', buildTimeout, async () => {
  const { code, stdout, stderr } = await proof(await harnessImage())
  assert.equal(code, 0, stdout + stderr)
  const lines = stdout.trim().split('\n').slice(1)
  assert.deepEqual(lines.map((line) => line.split(/\s+/)[0]).sort(), [...ids].sort())
  for (const line of lines) assert.match(line, /works$/)
})

test('the manifest names each harness in the pinned version, with what it can do', buildTimeout, async () => {
  const { harnesses } = await manifestIn(await harnessImage())
  assert.deepEqual(
    Object.fromEntries(harnesses.map(({ id, version }) => [id, version])),
    Object.fromEntries(harnessParts.map((part) => [part.id, pinnedVersion(part)])),
  )
  for (const { id, mcp, skills, subagents, routes, credential_locations: places, credential_env: names } of harnesses) {
    assert.deepEqual({ id, mcp, skills, subagents }, { id, mcp: true, skills: true, subagents: true })
    assert.ok(routes.length > 0 && places.length > 0 && names.length > 0)
  }
})

test('the image is small, has one Node, and nothing that only its making needed', buildTimeout, async () => {
  const image = await harnessImage()
  const { stdout: size } = await engine('image', 'inspect', '--format', '{{.Size}}', image)
  assert.ok(Number(size) <= largestBytes, `${size} bytes`)
  const find = `find / -xdev -type f \\( -name node -o -name npm-cli.js -o -name '*.tgz' \\) -size +1k; ls -A /tmp /root/.npm /build 2>/dev/null | grep -v :; true`
  assert.equal((await inImage(image, find)).stdout.trim(), '/opt/harnesses/node/bin/node')
})

test('its label names the harnesses', buildTimeout, async () => {
  const { stdout } = await engine('image', 'inspect', '--format', '{{index .Config.Labels "atoll.harnesses"}}', await harnessImage())
  assert.deepEqual(stdout.trim().split(',').sort(), [...ids].sort())
})

test('a subset has its harnesses and no others, and is smaller', buildTimeout, async () => {
  const image = await harnessImage('codex,gemini')
  const { code, stdout } = await proof(image)
  assert.equal(code, 0, stdout)
  const { harnesses } = await manifestIn(image)
  assert.deepEqual(harnesses.map(({ id }) => id).sort(), ['codex', 'gemini'])
  assert.notEqual((await inImage(image, 'command -v claude || command -v opencode || command -v kimi')).code, 0)
  const sizes = await engine('image', 'inspect', '--format', '{{.Size}}', image, await harnessImage())
  const [part = 0, all = 0] = sizes.stdout.trim().split('\n').map(Number)
  assert.ok(part < all * 0.65, sizes.stdout)
})

test('a harness whose program is gone fails the proof, and its claim leaves the manifest', buildTimeout, async () => {
  const script = `rm "$(readlink -f /usr/local/bin/codex)"; blueprint-verify-harnesses; echo "status $?"; cat /etc/atoll/harnesses.json`
  const { stdout } = await inImage(await harnessImage('codex,gemini'), script)
  assert.match(stdout, /codex .*--version could not be started/)
  assert.match(stdout, /gemini .*works\nstatus 1\n/)
  const { harnesses } = manifest.parse(JSON.parse(stdout.slice(stdout.indexOf('{'))))
  assert.deepEqual(
    harnesses.map(({ id }) => id),
    ['gemini'],
  )
})

test('a harness whose folder is gone fails the proof too', buildTimeout, async () => {
  const { stdout } = await inImage(
    await harnessImage('codex,gemini'),
    `rm -r /opt/harnesses/gemini; blueprint-verify-harnesses; echo "status $?"`,
  )
  assert.match(stdout, /codex .*works\n/)
  assert.match(stdout, /gemini .*exited with 1.*\nstatus 1\n/)
})

test('harnesses are run as the sandbox user, also by root', buildTimeout, async () => {
  const impostor = `#!/bin/sh\\necho "I am $(id -u):$(id -G)" >&2\\nexit 3\\n`
  const script = `ln -sf /impostor /opt/harnesses/bin/codex; printf '${impostor}' > /impostor; chmod 755 /impostor; blueprint-verify-harnesses codex`
  const { stdout, code } = await inImage(await harnessImage('codex,gemini'), script)
  assert.match(stdout, /codex --version exited with 3 I am 1000:1000\n/)
  assert.equal(code, 1)
})
