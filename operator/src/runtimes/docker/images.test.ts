// Which images run, what a sandbox takes over from them, and how they are fetched.
import assert from 'node:assert/strict'
import { chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { planOf } from '../../sandboxes/contract/subject.ts'
import type { Runtime } from '../../sandboxes/runtime.ts'
import { containerName } from './container.ts'
import { archiveOf, engine, fillWithGlibc, fillWithMusl, openMachine, type TestMachine } from './testing/machine.ts'
import { openRegistry, type TestRegistry } from './testing/registry.ts'
import { contextOf, exec, sh } from './testing/sandbox.ts'

describe('images of docker sandboxes', () => {
  let machine: TestMachine
  let runtime: Runtime
  let registry: TestRegistry

  before(async () => {
    machine = await openMachine()
    runtime = machine.open({ pullImages: true })
    const glibc = archiveOf(fillWithGlibc)
    registry = await openRegistry({
      small: { layer: glibc },
      shared: { layer: archiveOf((root) => writeFileSync(join(root, 'unlike'), 'small')) },
      foreign: { layer: glibc, architecture: process.arch === 'arm64' ? 'amd64' : 'arm64' },
    })
    for (const name of ['small', 'shared', 'foreign']) machine.owns(`${registry.host}/${name}:1`)
  })
  after(async () => {
    await runtime.close()
    await registry.close()
    await machine.close()
  })

  const refused = async (image: string, code: string, message: RegExp): Promise<void> => {
    const plan = planOf({ image })
    await assert.rejects(runtime.start(plan, contextOf()), { code, message })
    assert.deepEqual(await machine.leftovers(plan.id), [])
  }

  test('an image that is not here is fetched, with its progress told', async () => {
    const plan = planOf({ image: `${registry.host}/small:1` })
    const told: string[] = []
    const running = await runtime.start(plan, contextOf({ progress: (phase) => told.push(phase) }))
    assert.equal(running.image, `${registry.host}/small:1`)
    assert.deepEqual([...new Set(told)], ['image_pull', 'container_create', 'container_start'])
    assert.equal((await exec(running, ['nothing-there'])).exit_code, 127)
    await runtime.remove(plan.id)
  })

  test('where the operator names the images that it runs, no other is looked at, not even one that is here', async () => {
    const strict = machine.open({ pullImages: true, allowedImages: ['debian:12', `${registry.host}/small`] })
    const asked = registry.manifests()
    for (const image of [`${registry.host}/foreign:1`, 'unheard-of']) {
      await assert.rejects(strict.start(planOf({ image }), contextOf()), { code: 'image.not_allowed', status: 403, message: /debian:12/ })
    }
    assert.equal(registry.manifests(), asked)
    for (const image of ['', `${registry.host}/small:1`]) {
      const plan = planOf({ image })
      await strict.start(plan, contextOf())
      await strict.remove(plan.id)
    }
    await strict.close()
  })

  test('those who want the same image at once share one pull, and one who gives up does not end it for the others', async () => {
    let release = (): void => undefined
    registry.hold = new Promise((resolve) => {
      release = resolve
    })
    const image = `${registry.host}/shared:1`
    const before = registry.manifests()
    const abort = new AbortController()
    const outcomes = [new AbortController().signal, abort.signal].map((signal) =>
      runtime.start(planOf({ image }), contextOf({ signal })).catch((error: unknown) => error),
    )
    while (registry.manifests() === before) await new Promise((resolve) => setTimeout(resolve, 10))
    abort.abort(new Error('given up'))
    assert.match(String(await outcomes[1]), /given up/)
    release()
    registry.hold = undefined
    // It has no libraries at all, which is known only once it is here.
    assert.equal(Reflect.get(Object(await outcomes[0]), 'code'), 'image.unsupported')
    assert.equal(registry.manifests() - before, 1)
  })

  test('an image that the registry does not have, or a registry that is not there, is image.not_found with what the engine said', async () => {
    await refused(`${registry.host}/nothing:1`, 'image.not_found', /manifest unknown|not found/)
    await refused('127.0.0.1:1/nothing:1', 'image.not_found', /connection refused/)
  })

  test('an image is not fetched where that is switched off', async () => {
    const plan = planOf({ image: `${registry.host}/never:1` })
    const before = registry.manifests()
    await assert.rejects(machine.open().start(plan, contextOf()), { code: 'image.not_found', message: /switched off.*docker pull/s })
    assert.equal(registry.manifests(), before)
  })

  test('an image for another processor is refused before anything is made', async () => {
    await refused(`${registry.host}/foreign:1`, 'image.unsupported', /is for linux\/(arm64|amd64); this machine runs/)
  })

  test('an image on musl is refused, and so is one without any libraries', async () => {
    await refused(await machine.importImage('musl', archiveOf(fillWithMusl)), 'image.unsupported', /musl/)
    await refused(
      await machine.importImage(
        'empty',
        archiveOf((root) => writeFileSync(join(root, 'a'), '')),
      ),
      'image.unsupported',
      /glibc/,
    )
  })

  test('an image is also known by its id', async () => {
    const { Id } = await engine.getImage(machine.options.defaultImage).inspect()
    const plan = planOf({ image: Id })
    assert.equal(await sh(await runtime.start(plan, contextOf()), 'echo runs'), 'runs')
    await runtime.remove(plan.id)
  })

  test('a fresh home has what the image has there, and a resumed one what the user made of it', async () => {
    const home = archiveOf((root) => {
      const folder = join(root, 'home/agent')
      mkdirSync(join(folder, 'deep'), { recursive: true })
      for (const name of ['.profile', 'deep/file', '-odd name\n']) writeFileSync(join(folder, name), 'of the image')
      symlinkSync('/etc', join(folder, 'way-out'))
      for (const name of ['', 'deep', 'deep/file', '.profile']) chownSync(join(folder, name), 1000, 1000)
    })
    const plan = planOf({ image: await machine.deriveImage('home', home) })
    const running = await runtime.start(plan, contextOf())
    assert.equal(
      await sh(running, 'cd; cat .profile deep/file; readlink way-out; stat -c %U deep/file'),
      'of the imageof the image/etc\nagent',
    )
    await sh(running, 'cd; rm .profile; echo mine > deep/file')
    await runtime.stop(plan.id)
    assert.equal(
      await sh(await runtime.resume(plan, contextOf()), 'cd; cat deep/file; ls .profile 2>&1 || true').then((text) => text.split('\n')[0]),
      'mine',
    )
    await runtime.remove(plan.id)
    assert.deepEqual(await machine.leftovers(plan.id), [])
  })

  test('a volume of the image lies on the sandbox’s own disk, and stays', async () => {
    const plan = planOf({ image: await machine.deriveImage('volume', undefined, ['VOLUME /data', 'VOLUME /tmp']) })
    const running = await runtime.start(plan, contextOf())
    const { Mounts } = await engine.getContainer(containerName(plan.id)).inspect()
    assert.deepEqual(
      Mounts.filter(({ Type }) => Type === 'volume'),
      [],
    )
    await sh(running, 'echo kept > /data/file')
    assert.equal(await sh(running, 'df --output=source /data | tail -n 1'), await sh(running, 'df --output=source /home/agent | tail -n 1'))
    await runtime.stop(plan.id)
    assert.equal(await sh(await runtime.resume(plan, contextOf()), 'cat /data/file'), 'kept')
    await runtime.remove(plan.id)
  })

  test('entrypoint, user, health check and variables of the image do not reach the sidecar', async () => {
    const changes = [
      'ENTRYPOINT ["false"]',
      'USER 4242',
      'HEALTHCHECK CMD false',
      'ENV NODE_OPTIONS=--no-such-option LD_PRELOAD=/nothing.so',
    ]
    const plan = planOf({ image: await machine.deriveImage('hostile', undefined, changes) })
    const running = await runtime.start(plan, contextOf())
    assert.equal(await sh(running, 'id -u'), '1000')
    assert.equal((await engine.getContainer(containerName(plan.id)).inspect()).State.Health, undefined)
    await runtime.remove(plan.id)
  })

  test('an image whose own accounts have the number 1000 still calls the user agent, and keeps them', async () => {
    const accounts = archiveOf((root) => {
      mkdirSync(join(root, 'etc'))
      writeFileSync(
        join(root, 'etc/passwd'),
        'root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nagent:x:77:77::/:/bin/false\n',
      )
      writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnode:x:1000:\n')
    })
    const plan = planOf({ image: await machine.deriveImage('accounts', accounts) })
    const running = await runtime.start(plan, contextOf())
    assert.equal(await sh(running, 'id -un; id -gn; id -u node; id -u agent; echo ~agent'), 'agent\nagent\n1000\n1000\n/home/agent')
    await runtime.remove(plan.id)
  })
})
