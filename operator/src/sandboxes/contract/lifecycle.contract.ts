// The cases about beginning, stopping, coming back and ending.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { Failure } from '@atoll/protocol'
import { type Box, contextOf, newId, planOf, type Subject } from './subject.ts'

export function lifecycleCases(get: () => Subject): void {
  const assertGone = async (id: string): Promise<void> => {
    assert.equal(await get().stateOf(id), 'gone')
    assert.deepEqual(await get().opened.leftovers(id), [])
  }

  let box: Box
  test('a stop ends every process, also those that ignore the signal', async () => {
    const subject = get()
    box = await subject.start()
    await box.start({ command: 'trap "" TERM HUP INT; while :; do sleep 0.2; done' })
    await box.start({ command: 'setsid sleep 8888 & setsid sleep 8888' })
    await box.sh(
      'mkdir -p kept/deep; echo data > kept/deep/file; chmod 2751 kept/deep; chmod 604 kept/deep/file; ln -s deep/file kept/link',
    )
    await box.sh('echo in-home > ~/note; echo in-tmp > /tmp/note; mkfifo kept/pipe')
    await subject.stop(box)
    assert.equal(await subject.stateOf(box.plan.id), 'stopped')
    assert.equal((await subject.opened.leftovers(box.plan.id)).filter((left) => /process/i.test(left)).length, 0)
    await assert.rejects(subject.opened.openGuest(box.running.socketPath).ready(50, AbortSignal.timeout(5000)))
  })

  test('a stop may be repeated', async () => {
    await get().runtime.stop(box.plan.id)
    await get().runtime.stop(box.plan.id)
    assert.equal(await get().stateOf(box.plan.id), 'stopped')
  })

  test('a resumed sandbox has its files, with modes and links, and none of its processes', async () => {
    const subject = get()
    box = await subject.resume(box.plan)
    assert.equal(await subject.stateOf(box.plan.id), 'running')
    assert.equal(
      await box.sh('stat -c %a kept/deep kept/deep/file; readlink kept/link; cat kept/link; stat -c %F kept/pipe'),
      '2751\n604\ndeep/file\ndata\nfifo',
    )
    assert.equal(await box.sh('cat ~/note; stat -c %U ~/note kept/deep/file'), 'in-home\nagent\nagent')
    assert.equal(await box.sh('ps -eo args | grep -c "[s]leep 8888" || true'), '0')
    await box.sh('echo more >> kept/deep/file')
  })

  test('resuming a sandbox that runs is answered by the same one', async () => {
    const subject = get()
    const started = await box.start({ argv: ['sleep', '6666'] })
    const again = await subject.runtime.resume(box.plan, contextOf())
    assert.equal(again.socketPath, box.running.socketPath)
    assert.equal(await box.sh('ps -eo args | grep -c "[s]leep 6666"'), '1')
    await box.signal(started.id, 'SIGKILL')
  })

  test('starting a sandbox that runs does not replace it or its files', async () => {
    await get()
      .runtime.start(box.plan, contextOf())
      .catch((error: unknown) => assert.ok(error instanceof Failure))
    assert.equal(await box.sh('cat kept/deep/file'), 'data\nmore')
  })

  test('a second stop and resume loses nothing either', async () => {
    const subject = get()
    await subject.stop(box)
    box = await subject.resume(box.plan)
    assert.equal(await box.sh('cat kept/deep/file'), 'data\nmore')
  })

  test('a link in the place of the workspace gives its user nothing of the sidecar, and loses nothing', async () => {
    const subject = get()
    for (const target of ['/run/atoll', '/var/lib/atoll', '/dev', '/nowhere/at/all']) {
      await box.sh(`mv ~/workspace ~/moved && ln -s ${target} ~/workspace`)
      await subject.stop(box)
      box = await subject.resume(box.plan)
      // Asked from the home, since the workspace leads where nobody may go.
      const { stdout } = await box.exec({ command: 'stat -c "%u %n" /run/atoll /var/lib/atoll /dev', cwd: '/home/agent' })
      assert.equal(stdout, '0 /run/atoll\n0 /var/lib/atoll\n0 /dev\n', target)
      await box.exec({ command: 'rm ~/workspace && mv ~/moved ~/workspace', cwd: '/home/agent' })
    }
    assert.equal(await box.sh('cat kept/deep/file'), 'data\nmore')
  })

  test('secrets do not outlive a stop', async () => {
    const subject = get()
    await box.guest.configure({ env: {}, secrets: { GONE: 'secret' } })
    assert.equal(await box.sh('cat /run/secrets/GONE'), 'secret')
    await subject.stop(box)
    box = await subject.resume(box.plan)
    assert.equal(await box.sh('ls -A /run/secrets; printf %s "$GONE"'), '')
  })

  test('another runtime object, as after a restart of the operator, sees and controls the same sandbox', async () => {
    const subject = get()
    await box.start({ argv: ['sleep', '5555'] })
    const other = await subject.opened.reopen()
    assert.equal(await subject.stateOf(box.plan.id, other), 'running')
    const running = await other.resume(box.plan, contextOf())
    const again = await subject.attach(box.plan, running)
    assert.equal(await again.sh('ps -eo args | grep -c "[s]leep 5555"'), '1')
    again.guest.close()
    await other.stop(box.plan.id)
    assert.equal(await subject.stateOf(box.plan.id, other), 'stopped')
    box = await subject.resume(box.plan, other)
    assert.equal(await box.sh('cat kept/deep/file'), 'data\nmore')
    await other.close()
    assert.equal(await box.sh('echo lives on'), 'lives on')
  })

  test('a removed sandbox leaves nothing on the host, and removing may be repeated', async () => {
    const subject = get()
    await box.start({ command: 'trap "" TERM; cd /tmp; exec sleep 9999' })
    await subject.remove(box)
    await assertGone(box.plan.id)
    await subject.runtime.remove(box.plan.id)
    assert.equal(existsSync(box.running.socketPath), false)
  })

  test('the id of a removed sandbox may be used again, and finds nothing of the old one', async () => {
    const subject = get()
    const again = await subject.start({ id: box.plan.id })
    assert.equal(await again.sh('ls -A /home/agent/workspace /tmp'), '/home/agent/workspace:\n\n/tmp:')
    await subject.remove(again)
  })

  test('a stopped sandbox is removed whole', async () => {
    const subject = get()
    const stopped = await subject.start()
    await subject.stop(stopped)
    await subject.remove(stopped)
    await assertGone(stopped.plan.id)
  })

  test('stopping and removing what is unknown succeeds', async () => {
    const { runtime } = get()
    const id = newId()
    await runtime.stop(id)
    await runtime.remove(id)
    await assertGone(id)
  })

  test('resuming what is unknown fails and leaves nothing', async () => {
    const plan = planOf({ image: get().opened.images.default })
    await assert.rejects(get().runtime.resume(plan, contextOf()), Failure)
    await assertGone(plan.id)
  })

  test('the list has what runs and what is stopped, each with its socket', async () => {
    const subject = get()
    const running = await subject.shared()
    const stopped = await subject.start()
    await subject.stop(stopped)
    const list = await subject.runtime.list()
    const find = (id: string) => list.find((observed) => observed.id === id)
    assert.deepEqual(find(running.plan.id), { id: running.plan.id, state: 'running', socketPath: running.running.socketPath })
    assert.equal(find(stopped.plan.id)?.state, 'stopped')
    await subject.remove(stopped)
  })

  test('several sandboxes start at once', async () => {
    const subject = get()
    const boxes = await Promise.all([1, 2, 3, 4].map(() => subject.start({ memoryMb: 256 })))
    const names = await Promise.all(boxes.map((each, index) => each.sh(`echo ${index} > me; cat me`)))
    assert.deepEqual(names, ['0', '1', '2', '3'])
    assert.equal(new Set(boxes.map(({ running }) => running.socketPath)).size, 4)
    await Promise.all(boxes.map((each) => subject.remove(each)))
    for (const each of boxes) await assertGone(each.plan.id)
  })

  test('a start that was given up before it began leaves nothing', async () => {
    const plan = planOf({ image: get().opened.images.default })
    await assert.rejects(get().runtime.start(plan, contextOf(AbortSignal.abort())))
    await assertGone(plan.id)
  })

  test('a start that is given up at any moment leaves nothing', async () => {
    const subject = get()
    for (const afterMs of [1, 5, 15, 30, 60]) {
      const plan = planOf({ image: subject.opened.images.default })
      const abort = new AbortController()
      const timer = setTimeout(() => abort.abort(), afterMs)
      const outcome = await subject.runtime.start(plan, contextOf(abort.signal)).catch((error: unknown) => error)
      clearTimeout(timer)
      // It may have been quicker than the abort; then it is there and removed like any other.
      if (!(outcome instanceof Error)) await subject.runtime.remove(plan.id)
      await assertGone(plan.id)
    }
  })

  test('a start tells its phases', async () => {
    const phases: string[] = []
    const plan = planOf({ image: get().opened.images.default })
    await get().runtime.start(plan, { signal: new AbortController().signal, progress: (phase) => phases.push(phase) })
    await get().runtime.remove(plan.id)
    assert.deepEqual(
      phases.filter((phase) => phase !== 'image_pull'),
      ['container_create', 'container_start'],
    )
  })

  test('an image that does not exist is image.not_found, and nothing is made', async () => {
    const plan = planOf({ image: get().opened.images.missing })
    await assert.rejects(get().runtime.start(plan, contextOf()), { code: 'image.not_found' })
    await assertGone(plan.id)
  })

  test('an image that cannot run here is image.unsupported, and nothing is made', async (t) => {
    const image = get().opened.images.notLinuxOrMusl
    if (image === undefined) return t.skip(`${get().name} has no such image here`)
    const plan = planOf({ image })
    await assert.rejects(get().runtime.start(plan, contextOf()), { code: 'image.unsupported' })
    await assertGone(plan.id)
  })

  test('an image name that is a path is refused, and nothing is made', async () => {
    for (const image of ['../../etc', '/', '/etc/passwd', '..', 'a b', '-v', 'x\n']) {
      const plan = planOf({ image })
      await assert.rejects(get().runtime.start(plan, contextOf()), Failure)
      await assertGone(plan.id)
    }
  })
}
