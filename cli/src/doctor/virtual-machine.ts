// Whether this machine can run virtual machines: proved by booting one, never concluded from a device file.
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import type { Check } from './check.ts'
import { firstLine, runProgram } from './command.ts'

const about = { id: 'kvm', title: 'virtual machines (KVM)' }
const vmm = 'qemu-system-x86_64'
/** What the guest writes to the debug-exit port; the monitor then ends with twice that, plus one. */
const guestSays = 0x10
export const provedExitCode = guestSays * 2 + 1

/** A disk whose first sector is a whole guest: it says one number on port 0xf4 and halts. */
export function bootSector(): Uint8Array {
  const sector = new Uint8Array(512)
  // mov al, guestSays; out 0xf4, al; halt: hlt; jmp halt
  sector.set([0xb0, guestSays, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd])
  sector.set([0x55, 0xaa], 510)
  return sector
}

export async function checkKvm(): Promise<Check> {
  if (process.arch !== 'x64')
    return { ...about, status: 'unknown', seen: `not probed: the test guest is for x86-64, this is ${process.arch}` }
  const refusal = await deviceRefusal()
  if (refusal) return refusal
  const outcome = await bootGuest(['-accel', 'kvm', '-cpu', 'host'])
  if (outcome.isMissing) {
    return {
      ...about,
      status: 'unknown',
      seen: 'not probed: no VMM is installed to boot with',
      advice: 'apt-get install qemu-system-x86, then ask again',
    }
  }
  if (outcome.code === provedExitCode) return { ...about, status: 'ok', seen: 'booted a guest' }
  return {
    ...about,
    status: 'problem',
    seen: `a guest did not boot: ${firstLine(outcome.output) || 'no sign of life'}`,
    advice: 'See whether another hypervisor holds the processor (VirtualBox), or whether nesting is on.',
  }
}

async function deviceRefusal(): Promise<Check | undefined> {
  try {
    await (await open('/dev/kvm', 'r+')).close()
    return undefined
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
    if (code === 'ENOENT') {
      return {
        ...about,
        status: 'warning',
        seen: 'no /dev/kvm',
        advice: 'Only needed for microVMs: turn virtualisation on in the firmware, or nesting on in the host.',
      }
    }
    return {
      ...about,
      status: 'warning',
      seen: `/dev/kvm cannot be opened: ${code}`,
      advice: 'Only needed for microVMs: add your user to the group kvm.',
    }
  }
}

/** Boots the test guest. @param accelerator arguments that say what runs it */
export async function bootGuest(accelerator: readonly string[], program = vmm): Promise<Awaited<ReturnType<typeof runProgram>>> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'atoll-doctor-'))
  try {
    const disk = path.join(folder, 'guest.img')
    await writeFile(disk, bootSector())
    const machine = ['-m', '16', '-nodefaults', '-display', 'none', '-no-reboot', '-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04']
    return await runProgram(program, [...accelerator, ...machine, '-drive', `format=raw,if=floppy,readonly=on,file=${disk}`], 20_000)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
