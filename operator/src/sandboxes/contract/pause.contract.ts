// The cases about freezing a sandbox where it is.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Box, contextOf, type Subject } from './subject.ts'

/** Counts and looks at the clock, without a process that is born and dies, so that there is one to know it by. */
const ticking = `exec /opt/atoll/node -e "let n = 0; setInterval(() => require('fs').appendFileSync('ticks', ++n + ' ' + Date.now() + '\\n'), 5)"`
const pidOfTicking = 'pgrep -f [s]etInterval'
const stillMs = 500

export function pauseCases(get: () => Subject): void {
  const ticks = async (box: Box): Promise<number> => Number(await box.sh('tail -n 1 ticks | cut -d " " -f 1'))
  const startTicking = async (): Promise<{ box: Box; pid: string }> => {
    const box = await get().start()
    await box.start({ command: ticking })
    await box.sh('until [ -s ticks ]; do sleep 0.01; done')
    return { box, pid: await box.sh(pidOfTicking) }
  }

  test('a paused sandbox does nothing, and goes on where it was', async () => {
    const subject = get()
    const { box, pid } = await startTicking()
    await subject.runtime.pause(box.plan.id)
    assert.equal(await subject.stateOf(box.plan.id), 'paused')
    await subject.runtime.pause(box.plan.id)
    await delay(stillMs)
    await subject.runtime.unpause(box.plan.id)
    await subject.runtime.unpause(box.plan.id)
    assert.equal(await subject.stateOf(box.plan.id), 'running')
    const soon = await ticks(box)
    await box.sh(`until [ "$(tail -n 1 ticks | cut -d ' ' -f 1)" -gt ${soon} ]; do sleep 0.01; done`)
    assert.equal(await box.sh(pidOfTicking), pid)
    // Every line is there once, whatever was being written when it froze.
    assert.equal(await box.sh('awk "\\$1 != NR" ticks | head -n 1'), '')
    const longest = Number(await box.sh(`awk 'NR > 1 && $2 - last > most { most = $2 - last } { last = $2 } END { print most }' ticks`))
    assert.ok(longest >= stillMs, `it stood still for ${longest} ms`)
    await subject.remove(box)
  })

  test('a resume lets a paused sandbox go on', async () => {
    const subject = get()
    const { box, pid } = await startTicking()
    await subject.runtime.pause(box.plan.id)
    const { socketPath } = await subject.runtime.resume(box.plan, contextOf())
    assert.equal(socketPath, box.running.socketPath)
    assert.equal(await box.sh(pidOfTicking), pid)
    await subject.remove(box)
  })

  test('a paused sandbox can be stopped, with its files, and removed', async () => {
    const subject = get()
    const { box } = await startTicking()
    await subject.runtime.pause(box.plan.id)
    await subject.stop(box)
    assert.equal(await subject.stateOf(box.plan.id), 'stopped')
    const again = await subject.resume(box.plan)
    assert.ok((await ticks(again)) > 0)
    await subject.runtime.pause(box.plan.id)
    await subject.remove(again)
    assert.equal(await subject.stateOf(box.plan.id), 'gone')
    assert.deepEqual(await subject.opened.leftovers(box.plan.id), [])
  })

  test('the next operator finds a paused sandbox paused', async () => {
    const subject = get()
    const { box, pid } = await startTicking()
    await subject.runtime.pause(box.plan.id)
    const next = await subject.opened.reopen()
    assert.equal(await subject.stateOf(box.plan.id, next), 'paused')
    await next.unpause(box.plan.id)
    assert.equal(await box.sh(pidOfTicking), pid)
    await next.close()
    await subject.remove(box)
  })

  test('what does not run cannot be paused', async () => {
    const subject = get()
    const box = await subject.start()
    await subject.stop(box)
    await assert.rejects(subject.runtime.pause(box.plan.id))
    await subject.remove(box)
  })
}
