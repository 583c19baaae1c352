// The kernel counts pseudo-terminals for all sandboxes together: none may have them all.
import { runCommand } from '../../host/command.ts'

const most = 256
/** Beside the number, what bubblewrap has mounted it with. */
const options = ['remount', 'nosuid', 'noexec', 'mode=620', 'ptmxmode=666', `max=${most}`].join()

/** Limits those of a sandbox that runs. `mount` is the host's: it only acts in there. */
export const limitTerminals = async (pid: number): Promise<void> =>
  void (await runCommand('mount', ['--no-mtab', '--namespace', `/proc/${pid}/ns/mnt`, '-o', options, '/dev/pts']))
