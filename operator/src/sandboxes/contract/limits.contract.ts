// The cases about limits: each is exceeded, and the sidecar answers all the same.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Process } from '@atoll/protocol'
import type { Subject } from './subject.ts'
import { until } from './subject.ts'

export function limitCases(get: () => Subject): void {
  test('a process that takes more memory than there is dies alone', async (t) => {
    const subject = get()
    const reason = subject.skipFor('memory')
    if (reason) return t.skip(reason)
    const box = await subject.start({ memoryMb: 256 })
    const kept = await box.start({ argv: ['sleep', '3333'] })
    const result = await box.exec({ command: 'head -c 900000000 /dev/zero | tail | wc -c', timeout_ms: 50_000 })
    assert.notEqual(result.stdout.trim(), '900000000')
    assert.equal(await box.sh('echo alive'), 'alive')
    const { ended_at } = await box.guest.call<Process>({ method: 'GET', path: `/processes/${kept.id}` })
    assert.equal(ended_at, null)
    await subject.remove(box)
  })

  test('memory that is filled through files in memory counts too', async (t) => {
    const subject = get()
    const reason = subject.skipFor('memory')
    if (reason) return t.skip(reason)
    const box = await subject.start({ memoryMb: 256 })
    await box.exec({ command: 'head -c 900000000 /dev/zero > /dev/shm/big', timeout_ms: 50_000 })
    assert.ok(Number(await box.sh('stat -c %s /dev/shm/big')) < 300_000_000)
    await box.sh('rm /dev/shm/big; echo alive')
    await subject.remove(box)
  })

  test('a fork bomb does not take the sidecar, and everything works once it is killed', async (t) => {
    const subject = get()
    const reason = subject.skipFor('pids')
    if (reason) return t.skip(reason)
    const box = await subject.start({ pids: 96 })
    const script = 'while (1) { my $p = fork; if (!defined $p) { select undef, undef, undef, 0.002 } elsif ($p == 0) { sleep 1000; exit } }'
    const bomb = await box.start({ argv: ['perl', '-e', script] })
    const isFull = async () => {
      try {
        return (await box.exec({ argv: ['true'] })).exit_code !== 0
      } catch {
        return true
      }
    }
    await until('the limit is reached', isFull)
    const health = await box.guest.ready(10_000, AbortSignal.timeout(10_000))
    assert.equal(health.status, 'ok')
    await box.signal(bomb.id, 'SIGKILL')
    const isCalm = async () => {
      const { exit_code: status, stdout } = await box.exec({ command: 'ls -d /proc/[0-9]* | wc -l' })
      return status === 0 && Number(stdout) < 40
    }
    // The processes of a group die one after the other, so for a moment not every command finds room.
    await until('commands work again', async () => !(await isFull()) && (await isCalm().catch(() => false)))
    await subject.remove(box)
  })

  test('half a processor is clearly less than one', async (t) => {
    const subject = get()
    const reason = subject.skipFor('cpu')
    if (reason) return t.skip(reason)
    const box = await subject.start({ cpuCores: 0.5 })
    const spin = 'timeout 2 sh -c "while :; do :; done"'
    const result = await box.exec({ argv: ['bash', '-c', `${spin} & ${spin} & wait; times`] })
    const [, children = ''] = result.stdout.trim().split('\n')
    const seconds = [...children.matchAll(/(\d+)m([\d.]+)s/g)].reduce(
      (sum, [, minutes, rest]) => sum + Number(minutes) * 60 + Number(rest),
      0,
    )
    assert.ok(seconds > 0.1 && seconds < 1.6, `two loops of two seconds used ${seconds} s of processor time`)
    await subject.remove(box)
  })

  test('a full disk is an error of the writer, and of nobody else', async (t) => {
    const subject = get()
    const reason = subject.skipFor('disk')
    if (reason) return t.skip(reason)
    const box = await subject.start({ diskGb: 1 })
    const full = await box.exec({ command: 'head -c 1200000000 /dev/zero > big', timeout_ms: 60_000 })
    assert.match(full.stderr, /No space left on device/)
    assert.match((await box.exec({ command: 'echo x > /tmp/x && cat /tmp/x || echo full >&2' })).stderr, /No space|full|^$/)
    assert.equal(await (await subject.shared()).sh('echo fits > other && cat other'), 'fits')
    await box.sh('rm big; echo works > again; cat again')
    await subject.remove(box)
  })

  test('the temporary folder counts against the same disk', async (t) => {
    const subject = get()
    const reason = subject.skipFor('disk')
    if (reason) return t.skip(reason)
    const sizes = await (await subject.shared()).sh('df --output=size -k /tmp /home/agent | tail -n +2')
    for (const size of sizes.split('\n')) assert.ok(Number(size) <= 1024 * 1024 && Number(size) > 512 * 1024, size)
  })

  test('secrets fit in memory and cannot fill it', async () => {
    assert.ok(Number(await (await get().shared()).sh('df --output=size -k /run/secrets | tail -n 1')) <= 16 * 1024)
  })
}
