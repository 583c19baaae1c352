// The cases about running commands, on one shared sandbox.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Process } from '@atoll/protocol'
import { sidecarGeneration } from '@atoll/protocol/sidecar'
import { outputOf, type Subject, until } from './subject.ts'

export function commandCases(get: () => Subject): void {
  const shared = () => get().shared()

  test('a started sandbox answers with the generation of its sidecar', async () => {
    const box = await shared()
    const health = await box.guest.ready(5000, AbortSignal.timeout(5000))
    assert.equal(health.status, 'ok')
    assert.equal(health.generation, sidecarGeneration)
  })

  test('a start says what was really started', async () => {
    const { running } = await shared()
    assert.ok(running.image)
    assert.ok(running.socketPath.startsWith('/') && Buffer.byteLength(running.socketPath) < 108)
  })

  test('a shell command answers its output and status', async () => {
    const result = await (await shared()).exec({ command: 'echo out; echo err >&2; exit 7' })
    assert.deepEqual([result.stdout, result.stderr, result.exit_code], ['out\n', 'err\n', 7])
    assert.deepEqual(result.exit, { type: 'exited', code: 7 })
  })

  test('an argument vector reaches the program without a shell', async () => {
    const result = await (await shared()).exec({ argv: ['printf', '%s|', '$HOME', 'a b', ';ls', ''] })
    assert.equal(result.stdout, '$HOME|a b|;ls||')
  })

  test('a program that does not exist is status 127, not an error', async () => {
    const box = await shared()
    assert.equal((await box.exec({ argv: ['no-such-program'] })).exit_code, 127)
    assert.equal((await box.exec({ command: 'no-such-program' })).exit_code, 127)
  })

  test('a program that may not be executed is status 126', async () => {
    const box = await shared()
    await box.sh('echo text > plain.txt; chmod 644 plain.txt')
    assert.equal((await box.exec({ argv: ['./plain.txt'] })).exit_code, 126)
  })

  test('standard input is delivered, and empty without one', async () => {
    const box = await shared()
    assert.equal((await box.exec({ argv: ['cat'], stdin: 'from outside' })).stdout, 'from outside')
    assert.equal((await box.exec({ argv: ['cat'] })).stdout, '')
  })

  test('the environment of a request reaches the command, values untouched', async () => {
    const value = 'a"b$HOME `id` \n line'
    assert.equal((await (await shared()).exec({ argv: ['printenv', 'GIVEN'], env: { GIVEN: value } })).stdout, `${value}\n`)
  })

  test('commands start in the workspace, and relative directories start there', async () => {
    const box = await shared()
    assert.equal(await box.sh('pwd'), '/home/agent/workspace')
    await box.sh('mkdir -p sub/deep')
    assert.equal((await box.exec({ command: 'pwd', cwd: 'sub/deep' })).stdout.trim(), '/home/agent/workspace/sub/deep')
  })

  test('a directory that does not exist is a failure with its code', async () => {
    const box = await shared()
    await assert.rejects(box.exec({ command: 'true', cwd: '/home/agent/nowhere' }), { code: 'file.not_found' })
  })

  test('a command beyond its time is killed with its whole group', async () => {
    const box = await shared()
    const result = await box.exec({ command: 'sleep 4321 & sleep 4321', timeout_ms: 300 })
    assert.equal(result.timed_out, true)
    assert.notEqual(result.exit_code, 0)
    await until('the group is gone', async () => (await box.sh('ps -eo args | grep -c "[s]leep 4321" || true')) === '0')
  })

  test('a command killed by a signal says so', async () => {
    const result = await (await shared()).exec({ command: 'kill -KILL $$' })
    assert.deepEqual(result.exit, { type: 'signalled', signal: 'SIGKILL' })
    assert.equal(result.exit_code, 137)
  })

  test('three mebibytes of output arrive whole, more than four say that they are cut', async () => {
    const box = await shared()
    const whole = await box.exec({ command: 'head -c 3145728 /dev/zero | tr "\\0" x' })
    assert.equal(whole.stdout.length, 3_145_728)
    assert.equal(whole.truncated, false)
    const cut = await box.exec({ command: 'head -c 6291456 /dev/zero | tr "\\0" x' })
    assert.equal(cut.truncated, true)
  })

  test('binary output arrives byte for byte in the event stream', async () => {
    const box = await shared()
    const started = await box.start({ command: 'for i in 0 1 2 3 4 5 6 7; do printf "\\\\$i\\377\\000\\200"; done' })
    const bytes = outputOf(await box.events(started.id))
    const expected = Buffer.concat([...'01234567'].map((digit) => Buffer.from([Number(digit), 0xff, 0, 0x80])))
    assert.deepEqual(bytes, expected)
  })

  test('a process runs in the background, is listed, and ends by a signal to its group', async () => {
    const box = await shared()
    const started = await box.start({ command: 'sleep 1234 & sleep 1234' })
    const { processes } = await box.guest.call<{ processes: Process[] }>({ method: 'GET', path: '/processes' })
    assert.ok(processes.some(({ id, ended_at }) => id === started.id && ended_at === null))
    await box.signal(started.id, 'SIGTERM')
    const last = (await box.events(started.id)).at(-1)?.data
    assert.ok(last?.type === 'exit' && last.exit.type === 'signalled')
    await until('the group is gone', async () => (await box.sh('ps -eo args | grep -c "[s]leep 1234" || true')) === '0')
  })

  test('a reader that comes back with its cursor loses and repeats nothing', async () => {
    const box = await shared()
    const started = await box.start({ command: 'for i in $(seq 1 200); do echo line-$i; sleep 0.005; done' })
    const first = await box.events(started.id, 0, (events) => events.length >= 5)
    const cursor = first.at(-1)?.id
    assert.ok(cursor !== undefined)
    const second = await box.events(started.id, cursor)
    const expected = Array.from({ length: 200 }, (_, index) => `line-${index + 1}\n`).join('')
    assert.equal(Buffer.concat([outputOf(first), outputOf(second)]).toString(), expected)
    assert.equal(second.at(-1)?.data.type, 'exit')
  })

  test('a process and its output outlive the connections of the operator', async () => {
    const subject = get()
    const box = await shared()
    const started = await box.start({ command: 'sleep 0.3; echo still here' })
    const again = await subject.attach(box.plan, box.running)
    assert.equal(outputOf(await again.events(started.id)).toString(), 'still here\n')
    Object.assign(box, { guest: again.guest })
  })

  test('standard input of a running process takes bytes until it is closed', async () => {
    const box = await shared()
    const started = await box.start({ argv: ['cat'], stdin: 'open' })
    const { Readable } = await import('node:stream')
    for (const [text, close] of [
      ['one ', false],
      ['two', true],
    ] as const) {
      const answer = await box.guest.send({
        method: 'POST',
        path: `/processes/${started.id}/stdin${close ? '?close=true' : ''}`,
        body: Readable.from([Buffer.from(text)]),
      })
      assert.equal(answer.status, 200)
      answer.body.resume()
    }
    assert.equal(outputOf(await box.events(started.id)).toString(), 'one two')
  })

  test('environment and secrets that the operator sets reach later commands, secrets also as files', async () => {
    const box = await shared()
    await box.guest.configure({ env: { FLAVOUR: 'vanilla' }, secrets: { TOKEN: 'hidden value' } })
    assert.equal(await box.sh('printf %s "$FLAVOUR-$TOKEN"'), 'vanilla-hidden value')
    assert.equal(await box.sh('cat /run/secrets/TOKEN'), 'hidden value')
    assert.equal(await box.sh('stat -f -c %T /run/secrets'), 'tmpfs')
    await box.guest.configure({ env: {}, secrets: {} })
    assert.equal(await box.sh('printf %s "$FLAVOUR$TOKEN"; ls -A /run/secrets'), '')
  })

  test('orphans are reaped', async () => {
    const box = await shared()
    await box.sh('for i in 1 2 3 4 5; do (sleep 0.05 &) ; done')
    await until('no zombie is left', async () => (await box.sh('ps -eo stat,comm | grep -c "^Z.*sleep" || true')) === '0')
  })

  test('fifty commands at once all answer their own output', async () => {
    const box = await shared()
    const results = await Promise.all(Array.from({ length: 50 }, (_, index) => box.exec({ argv: ['echo', String(index)] })))
    assert.deepEqual(
      results.map(({ stdout }) => stdout.trim()),
      results.map((_, index) => String(index)),
    )
  })

  test('an image without a shell takes argument vectors and refuses shell commands', async (t) => {
    const subject = get()
    const image = subject.opened.images.noShell
    if (image === undefined) return t.skip(`${subject.name} has no image without a shell here`)
    const box = await subject.start({ image })
    await assert.rejects(box.exec({ command: 'true' }), { code: 'image.no_shell' })
    assert.equal((await box.exec({ argv: ['no-such-program'] })).exit_code, 127)
    await subject.remove(box)
  })
}
