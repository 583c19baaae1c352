// The cases about the wall: who the user is inside, and what cannot be seen, reached or changed from there.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { gatewayPort } from '@atoll/protocol/sidecar'
import { canaryName, type Subject } from './subject.ts'

/** The sidecar itself: what runs its program as uid 0. */
const sidecarPids =
  'pids=$(for p in $(grep -laz sidecar[.]mjs /proc/[0-9]*/cmdline | cut -d/ -f3); do [ "$(stat -c %u /proc/$p)" = 0 ] && echo $p; done); [ -n "$pids" ]'

/** CHOWN, KILL, SETGID, SETUID. */
const sidecarCapabilities = (1n << 0n) | (1n << 5n) | (1n << 6n) | (1n << 7n)

const assertWithin = (mask: string | undefined): void => assert.equal(BigInt(`0x${mask}`) & ~sidecarCapabilities, 0n, mask)

export function isolationCases(get: () => Subject): void {
  const sh = async (command: string): Promise<string> => (await get().shared()).sh(command)
  const refuses = async (command: string): Promise<void> => (await get().shared()).refuses(command)

  test('the user is agent, 1000, in no other group', async () => {
    assert.equal(await sh('id -u; id -g; id -G; id -un; id -gn'), '1000\n1000\n1000\nagent\nagent')
  })

  test('the home is /home/agent and belongs to the user', async () => {
    assert.equal(await sh('echo $HOME; stat -c %U:%G /home/agent /home/agent/workspace'), '/home/agent\nagent:agent\nagent:agent')
  })

  test('the workspace, the home and the temporary folder are writable', async () => {
    await sh('for d in /home/agent/workspace /home/agent /tmp /dev/shm; do echo x > $d/probe && rm $d/probe || exit 1; done')
    assert.equal(await sh('stat -c %a /tmp'), '1777')
  })

  test('no process of the user stands in, or has open, what is not on a disk with a limit', async () => {
    await (await get().shared()).guest.call({ method: 'GET', path: '/files?path=.' })
    // Whatever else there is of the host: its system, read-only, and its log, which only the sidecar may write.
    const places = await sh('for p in /proc/[0-9]*; do readlink $p/cwd $p/fd/*; done 2>/dev/null | sort -u; true')
    const files = places.split('\n').filter((place) => place.startsWith('/') && !/^(\/(dev|proc|home\/agent)(\/.*)?|\/tmp)$/.test(place))
    assert.deepEqual(
      files.filter((place) => place !== '/'),
      [],
    )
    await refuses('for p in /proc/[0-9]*; do touch $p/cwd/../lib/atoll/probe && exit 0; done; exit 1')
  })

  test('the rest of the file system is read-only', async () => {
    for (const directory of ['/', '/usr', '/usr/bin', '/etc', '/opt', '/opt/atoll', '/run', '/var', '/home', '/root']) {
      await refuses(`touch ${directory}/probe`)
    }
    await refuses('touch -c /etc/passwd')
    await refuses('echo x >> /opt/atoll/sidecar.mjs')
    // Also for the sidecar, which owns some of it.
    for (const point of ['/', '/opt/atoll']) assert.match(await sh(`awk '$2 == "${point}" { print $4 }' /proc/mounts | tail -n 1`), /^ro\b/)
  })

  test('nothing of the operator’s environment is visible', async () => {
    const canary = process.env[canaryName]
    assert.ok(canary)
    const box = await get().shared()
    const seen = await box.exec({
      command: `cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" "\\n" | cat - /dev/null; env`,
    })
    assert.ok(!seen.stdout.includes(canary) && !seen.stdout.includes(canaryName))
    assert.doesNotMatch(await sh('env'), /^ATOLL_/m)
  })

  test('the environment of the sidecar and of the first process cannot be read', async () => {
    await refuses(`${sidecarPids} && for p in $pids; do cat /proc/$p/environ && exit 0; done; exit 1`)
    await refuses('cat /proc/1/environ')
  })

  test('no secret file of the host is visible', async () => {
    await refuses('cat /etc/shadow')
    await refuses('cat /etc/gshadow')
    await refuses('ls /root')
    await refuses('ls /etc/ssh/*_key')
    await refuses('ls /var/run/docker.sock /run/docker.sock')
    const canary = join(tmpdir(), `atoll-canary-${process.pid}`)
    writeFileSync(canary, 'canary', { mode: 0o644 })
    try {
      await refuses(`cat ${canary}`)
    } finally {
      rmSync(canary)
    }
  })

  test('the working tree of the operator is not visible', async () => {
    await refuses(`ls ${process.cwd()}`)
  })

  test('there is no network interface but the loopback', async () => {
    assert.equal(await sh("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"), 'lo')
    assert.equal(await sh('tail -n +2 /proc/net/route'), '')
  })

  test('the sidecar listens on no network socket but on loopback, for the way out', async () => {
    const subject = get()
    const box = await subject.start()
    const sockets = await box.sh('for f in tcp tcp6 udp udp6 raw raw6; do tail -n +2 /proc/net/$f; done')
    const local = sockets
      .split('\n')
      .filter(Boolean)
      .map((line) => line.trim().split(/\s+/)[1])
    assert.deepEqual(local, [`0100007F:${gatewayPort.toString(16).toUpperCase()}`])
    await subject.remove(box)
  })

  test('the guest channel and the state of the sidecar are out of the user’s reach', async () => {
    for (const directory of ['/run/atoll', '/var/lib/atoll']) {
      await refuses(`ls ${directory}`)
      await refuses(`touch ${directory}/x`)
    }
    await refuses('ls -l /run/atoll/sidecar.sock')
  })

  test('the sidecar and the first process cannot be signalled', async () => {
    await refuses(`${sidecarPids} && for p in $pids; do kill -0 $p && exit 0; done; exit 1`)
    await refuses('kill -KILL 1')
  })

  test('memory, files and root of the sidecar cannot be opened', async () => {
    const reads = ['cat /proc/$p/mem', 'cat /proc/$p/maps', 'ls /proc/$p/fd', 'ls /proc/$p/root/', 'ls /proc/$p/cwd/', 'cat /proc/$p/stack']
    for (const read of reads) await refuses(`${sidecarPids} && for p in $pids; do ${read} && exit 0; done; exit 1`)
  })

  test('processes of the host are not visible', async () => {
    const marker = spawn('sleep', ['987654'], { stdio: 'ignore' })
    try {
      assert.equal(await sh('cat /proc/[0-9]*/cmdline | tr "\\0" " " | grep -c "sleep 987[6]54" || true'), '0')
      assert.ok(Number(await sh('ls -d /proc/[0-9]* | wc -l')) < 40)
    } finally {
      marker.kill('SIGKILL')
    }
  })

  test('every namespace but the time is the sandbox’s own', async () => {
    for (const kind of ['pid', 'mnt', 'net', 'ipc', 'uts']) {
      assert.notEqual(await sh(`readlink /proc/self/ns/${kind}`), readlinkSync(`/proc/self/ns/${kind}`), kind)
    }
    assert.notEqual(await sh('cat /proc/sys/kernel/hostname'), hostname())
  })

  test('no new privilege can be gained and system calls are filtered', async () => {
    assert.match(await sh('cat /proc/self/status'), /^NoNewPrivs:\t1$/m)
    assert.match(await sh('cat /proc/self/status'), /^Seccomp:\t2$/m)
  })

  test('the user has no capability, and none to inherit that the sidecar has not', async () => {
    const status = await sh('grep ^Cap /proc/self/status')
    for (const set of ['Prm', 'Eff', 'Amb']) assert.match(status, new RegExp(`^Cap${set}:\\t0+$`, 'm'))
    assertWithin(/^CapInh:\t(\w+)$/m.exec(status)?.[1])
  })

  test('the sidecar has no capability beyond changing users, owners and ending processes', async () => {
    const masks = await sh(`${sidecarPids}; for p in $pids; do grep -h -E "^Cap(Prm|Eff|Inh|Bnd|Amb)" /proc/$p/status; done | cut -f2`)
    for (const mask of masks.split('\n')) assertWithin(mask)
  })

  test('another user cannot be become', async () => {
    await refuses("perl -e '$> = 0; exit($> == 0 ? 0 : 1)'")
    await refuses("perl -e '$< = 1001; $> = 1001; exit($> == 1001 ? 0 : 1)'")
    await refuses('su -c true')
    await refuses('chown 0:0 /home/agent/workspace')
  })

  test('nothing can be mounted and no namespace made', async () => {
    for (const command of [
      'mount -t tmpfs none /tmp',
      'mount --bind /tmp /home/agent',
      'umount /proc',
      'unshare -U true',
      'unshare -m true',
    ]) {
      await refuses(command)
    }
    await refuses('unshare -Ur true')
    await refuses('chroot / true')
  })

  test('settings of the kernel cannot be changed', async () => {
    for (const name of [
      'kernel/hostname',
      'vm/overcommit_memory',
      'kernel/core_pattern',
      'kernel/panic',
      'net/ipv4/ip_forward',
      'fs/file-max',
    ]) {
      await refuses(`[ -e /proc/sys/${name} ] && cat /proc/sys/${name} > /proc/sys/${name}`)
    }
    await refuses('echo h > /proc/sysrq-trigger')
    await refuses('touch /sys/probe')
    await refuses('find /sys/fs/cgroup -maxdepth 2 -writable 2>/dev/null | grep .')
  })

  test('no device of the host is there, and none can be made', async () => {
    assert.equal(await sh('find /dev -type b'), '')
    await refuses('ls /dev/mem /dev/kmem /dev/port /dev/kmsg /dev/kvm /dev/loop-control /dev/fuse /dev/net/tun 2>/dev/null | grep .')
    await refuses('mknod /tmp/null c 1 3')
    await refuses('mknod /tmp/disk b 8 0')
  })

  test('the devices that programs need are there', async () => {
    await sh('echo x > /dev/null && head -c 4 /dev/zero && head -c 4 /dev/urandom > /dev/null && ls /dev/ptmx /dev/tty /dev/full')
  })

  test('a program on the user’s disk gains nothing from the set-user-id bit', async () => {
    assert.match(await sh('cp "$(command -v id)" own-id; chmod 4755 own-id; ./own-id -u'), /^1000$/)
    assert.match(
      await sh('findmnt -n -o OPTIONS -T /home/agent 2>/dev/null || awk \'$2=="/home/agent"{print $4}\' /proc/mounts'),
      /nosuid.*nodev|nodev.*nosuid/,
    )
  })

  test('the kernel keyring, its probes and its modules are refused', async () => {
    const numbers = { x64: [250, 321, 298, 175], arm64: [219, 280, 241, 105] }
    const calls = process.arch === 'arm64' ? numbers.arm64 : numbers.x64
    for (const number of calls) {
      assert.equal(await sh(`perl -e 'my $r = syscall(${number}, 0, 0, 0, 0, 0); print $r == -1 ? $!+0 : "done"'`), '1')
    }
  })

  test('what the sidecar runs on is not what the user can replace by a link', async () => {
    await refuses('ln -sfn /tmp /home/agent/../../opt/atoll')
    await refuses('mv /home/agent /home/other')
    await refuses('rmdir /run/secrets')
  })
}
