// The system calls that a sandbox may not make, as the classic BPF program that the kernel takes.
import { constants } from 'node:os'

type Architecture = 'x64' | 'arm64'

interface Calls {
  /** What the kernel calls this architecture (AUDIT_ARCH_…). */
  readonly audit: number
  readonly clone: number
  readonly unshare: number
  readonly ioctl: number
  readonly denied: Readonly<Record<string, number>>
}

/** The same on every architecture, since Linux gives new calls one number for all. */
const newCalls = {
  io_uring_setup: 425,
  io_uring_enter: 426,
  io_uring_register: 427,
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  fspick: 433,
  mount_setattr: 442,
  quotactl_fd: 443,
  open_tree_attr: 467,
} as const

export const callsOf: Readonly<Record<Architecture, Calls>> = {
  x64: {
    audit: 0xc000_003e,
    clone: 56,
    unshare: 272,
    ioctl: 16,
    denied: {
      ...newCalls,
      syslog: 103,
      uselib: 134,
      vhangup: 153,
      pivot_root: 155,
      _sysctl: 156,
      acct: 163,
      settimeofday: 164,
      mount: 165,
      umount2: 166,
      swapon: 167,
      swapoff: 168,
      reboot: 169,
      iopl: 172,
      ioperm: 173,
      create_module: 174,
      init_module: 175,
      delete_module: 176,
      get_kernel_syms: 177,
      query_module: 178,
      quotactl: 179,
      nfsservctl: 180,
      lookup_dcookie: 212,
      clock_settime: 227,
      kexec_load: 246,
      add_key: 248,
      request_key: 249,
      keyctl: 250,
      perf_event_open: 298,
      open_by_handle_at: 304,
      clock_adjtime: 305,
      setns: 308,
      finit_module: 313,
      kexec_file_load: 320,
      bpf: 321,
      userfaultfd: 323,
    },
  },
  arm64: {
    audit: 0xc000_00b7,
    clone: 220,
    unshare: 97,
    ioctl: 29,
    denied: {
      ...newCalls,
      lookup_dcookie: 18,
      umount2: 39,
      mount: 40,
      pivot_root: 41,
      nfsservctl: 42,
      vhangup: 58,
      quotactl: 60,
      acct: 89,
      kexec_load: 104,
      init_module: 105,
      delete_module: 106,
      clock_settime: 112,
      syslog: 116,
      reboot: 142,
      settimeofday: 170,
      add_key: 217,
      request_key: 218,
      keyctl: 219,
      swapon: 224,
      swapoff: 225,
      perf_event_open: 241,
      open_by_handle_at: 265,
      clock_adjtime: 266,
      setns: 268,
      finit_module: 273,
      bpf: 280,
      userfaultfd: 282,
      kexec_file_load: 294,
    },
  },
}

/** Its flags stand in memory, where a filter cannot look; programs fall back to `clone` when it is missing. */
const clone3 = 435
/** The newest call that this table knows. Later ones do not exist for a sandbox: nobody has judged them. */
const newestCall = 469
/** The second numbering of x86-64, by which every rule here could be dodged. */
const x32Bit = 0x4000_0000

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const namespaceFlags = 0x7e02_0000
/** CLONE_NEWTIME, which for `clone` is part of a signal number. */
const timeNamespaceFlag = 0x80
/** Terminal controls that type into, or paste to, a terminal of somebody else. */
const terminalInjection = { TIOCSTI: 0x5412, TIOCLINUX: 0x541c } as const

const load = 0x20
const jumpIfEqual = 0x15
const jumpIfGreater = 0x25
const jumpIfAtLeast = 0x35
const jumpIfAnySet = 0x45
const answer = 0x06

const allow = 0x7fff_0000
const killProcess = 0x8000_0000
const refuse = (error: number): number => 0x0005_0000 | error

const numberAt = 0
const archAt = 4
/** Low half of an argument; both architectures are little-endian. */
const argumentAt = (index: number): number => 16 + index * 8

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, value: number]

const denyCall = (call: number, error: number): Instruction[] => [
  [jumpIfEqual, 0, 1, call],
  [answer, 0, 0, refuse(error)],
]

/** Denies a call when its argument passes a test, allows it otherwise. */
const denyCallIf = (call: number, argument: number, tests: readonly (readonly [code: number, value: number])[]): Instruction[] => [
  [jumpIfEqual, 0, 2 + tests.length * 2, call],
  [load, 0, 0, argumentAt(argument)],
  ...tests.flatMap(([code, value]): Instruction[] => [
    [code, 0, 1, value],
    [answer, 0, 0, refuse(constants.errno.EPERM)],
  ]),
  [answer, 0, 0, allow],
]

/** The filter for a processor architecture, as bubblewrap's `--seccomp` takes it. */
export function seccompFilter(architecture: Architecture): Buffer {
  const calls = callsOf[architecture]
  const { EPERM, ENOSYS } = constants.errno
  const program: Instruction[] = [
    [load, 0, 0, archAt],
    [jumpIfEqual, 1, 0, calls.audit],
    [answer, 0, 0, killProcess],
    [load, 0, 0, numberAt],
    [jumpIfAtLeast, 0, 1, x32Bit],
    [answer, 0, 0, refuse(ENOSYS)],
    [jumpIfGreater, 0, 1, newestCall],
    [answer, 0, 0, refuse(ENOSYS)],
    ...denyCall(clone3, ENOSYS),
    ...Object.values(calls.denied).flatMap((call) => denyCall(call, EPERM)),
    ...denyCallIf(calls.clone, 0, [[jumpIfAnySet, namespaceFlags]]),
    ...denyCallIf(calls.unshare, 0, [[jumpIfAnySet, namespaceFlags | timeNamespaceFlag]]),
    ...denyCallIf(calls.ioctl, 1, [
      [jumpIfEqual, terminalInjection.TIOCSTI],
      [jumpIfEqual, terminalInjection.TIOCLINUX],
    ]),
    [answer, 0, 0, allow],
  ]
  const bytes = Buffer.alloc(program.length * 8)
  program.forEach(([code, ifTrue, ifFalse, value], index) => {
    bytes.writeUInt16LE(code, index * 8)
    bytes.writeUInt8(ifTrue, index * 8 + 2)
    bytes.writeUInt8(ifFalse, index * 8 + 3)
    bytes.writeUInt32LE(value >>> 0, index * 8 + 4)
  })
  return bytes
}

/** Undefined when no filter exists for this machine's processor. */
export const hostArchitecture = (arch: string = process.arch): Architecture | undefined =>
  arch === 'x64' || arch === 'arm64' ? arch : undefined
