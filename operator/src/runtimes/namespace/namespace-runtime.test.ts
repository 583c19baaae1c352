import { openHttpGuest } from '../../guest-channel/http-guest.ts'
import { type Opened, runtimeContract } from '../../sandboxes/runtime.contract.ts'
import { addBareImage, addMuslImage, openTestMachine } from './testing/machine.ts'

async function open(): Promise<Opened> {
  const machine = await openTestMachine()
  return {
    runtime: machine.create(),
    openGuest: openHttpGuest,
    images: {
      default: '',
      missing: 'no-such-image',
      notLinuxOrMusl: addMuslImage(machine, 'musl'),
      noShell: addBareImage(machine, 'bare'),
    },
    reopen: () => Promise.resolve(machine.create()),
    leftovers: machine.leftovers,
    close: machine.close,
  }
}

runtimeContract('namespace', open)
