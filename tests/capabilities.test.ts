// What the operator advertises is what an image's own check has proved, and no more.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Atoll, type Capabilities } from '@atoll/sdk'
import { engine, harnessImage } from './harness-image.ts'
import { testRuntimes } from './runtimes.ts'
import { startOperator } from './start-operator.ts'

const skip = testRuntimes.find(({ name }) => name === 'docker')?.skip ?? 'no engine'
const tag = `atoll-test/capabilities:${randomBytes(4).toString('hex')}`
const container = tag.replaceAll(/[/:]/g, '-')

after(async () => {
  await engine('rm', '--force', container)
  await engine('rmi', '--force', tag)
})

const idsOf = ({ harnesses }: Capabilities): string[] => harnesses.map(({ id }) => id).sort()

async function untilAdvertised(atoll: Atoll, ids: readonly string[]): Promise<Capabilities> {
  for (;;) {
    const capabilities = await atoll.capabilities()
    if (capabilities.images.length > 0 && idsOf(capabilities).join() === ids.join()) return capabilities
    await delay(200)
  }
}

async function must(...argv: readonly string[]): Promise<void> {
  const { code, stderr } = await engine(...argv)
  assert.equal(code, 0, stderr)
}

test('harnesses are advertised from a probe of the image, and one that breaks vanishes', { skip, timeout: 900_000 }, async () => {
  await must('tag', await harnessImage('codex,gemini'), tag)
  await using operator = await startOperator({ runtime: 'docker', env: { SIDECAR_IMAGE: tag, SANDBOX_REAPER_INTERVAL: '1' } })
  const atoll = new Atoll({ url: operator.url, apiKey: operator.adminKey })
  const whole = await untilAdvertised(atoll, ['codex', 'gemini'])
  assert.deepEqual(
    whole.capabilities.map(({ id }) => id),
    ['all_harness'],
  )
  for (const harness of whole.harnesses) assert.deepEqual([harness.mcp, harness.skills, harness.subagents], [true, true, true])
  const [image] = whole.images
  assert.ok(image)
  assert.match(image.image_id, /^sha256:/)
  assert.ok(image.probed_at > 0)
  assert.deepEqual([image.problems, whole.evidence[0]?.image_id], [[], image.image_id])

  await must('run', '--name', container, '--entrypoint', 'sh', tag, '-c', 'rm "$(readlink -f /usr/local/bin/codex)"')
  await must('commit', container, tag)
  const broken = await untilAdvertised(atoll, ['gemini'])
  assert.notEqual(broken.images[0]?.image_id, image.image_id)
  assert.match(broken.images[0]?.problems.join() ?? '', /codex/)
  const left = await operator.call('GET', '/api/sandboxes?state=creating,running,stopped')
  assert.deepEqual(left.body.sandboxes, [], 'a probe leaves no sandbox')
})

test('what was not probed is not advertised', async () => {
  await using operator = await startOperator({ runtime: 'namespace' })
  const { capabilities, harnesses, images, evidence, runtimes } = await new Atoll({ url: operator.url, apiKey: '' }).capabilities()
  assert.deepEqual([capabilities, harnesses, images, evidence], [[], [], [], []])
  assert.ok(runtimes.some(({ name, default: isDefault }) => name === 'namespace' && isDefault))
})
