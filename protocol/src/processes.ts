import { z } from 'zod'
import { byteLength } from './bytes.ts'
import { Exit } from './exit.ts'
import { route } from './route.ts'
import { Environment, objectOrText } from './sandboxes.ts'

const command = z
  .string()
  .min(1)
  .refine((value) => value.trim() !== '', 'command is required')
  .refine((value) => byteLength(value) <= 102_400, 'command exceeds maximum length (102400 bytes)')
  .refine((value) => !value.includes('\0'), 'the command holds a NUL byte')
const argv = z
  .array(
    z
      .string()
      .max(131_072)
      .refine((value) => !value.includes('\0'), 'an argument holds a NUL byte'),
  )
  .min(1)
  .max(1024)
  .refine(([program]) => program !== '', 'the program name is empty')
export const workingDirectory = z
  .string()
  .max(4096)
  .refine((value) => !value.includes('\0'), 'the path holds a NUL byte')

/** What to run: a shell `command`, or a program's `argv` that no shell sees. One of the two. */
const what = { command: command.optional(), argv: argv.optional() }
const oneOf = (request: { command?: unknown; argv?: unknown }): boolean => (request.command === undefined) !== (request.argv === undefined)
const oneOfText = 'command is required (or argv, but not both)'

export const ExecRequest = z
  .object({
    ...what,
    /** Accepted for the reference's clients; commands share the sandbox, not a session. */
    session_id: z.string().max(256).default(''),
    /** Empty: the workspace. A relative path starts there. */
    cwd: workingDirectory.default(''),
    env_json: objectOrText(Environment).default({}),
    /** Text on standard input; absent: an empty one. */
    stdin: z.string().max(1_048_576).optional(),
    /** 0: 30 s. The command is killed with its whole group when it is over. */
    timeout_ms: z.int().min(0).max(86_400_000).default(0),
  })
  .refine(oneOf, oneOfText)
  .meta({ id: 'ExecRequest' })
export type ExecRequest = z.output<typeof ExecRequest>

export const ExecResult = z
  .object({
    /** 0…255; 128 + signal when killed by one; 127 when the program does not exist. */
    exit_code: z.int(),
    exit: Exit,
    stdout: z.string(),
    stderr: z.string(),
    /** True when a stream was longer than 4 MiB and its end is missing; use a process to read all of it. */
    truncated: z.boolean(),
    timed_out: z.boolean(),
    duration_ms: z.number(),
  })
  .meta({ id: 'ExecResult' })
export type ExecResult = z.infer<typeof ExecResult>

export const StartProcess = z
  .object({
    ...what,
    cwd: workingDirectory.default(''),
    env_json: objectOrText(Environment).default({}),
    /** `open`: standard input is written through its own route until that closes it. */
    stdin: z.enum(['closed', 'open']).default('closed'),
    /** 0: no limit. */
    timeout_ms: z.int().min(0).max(604_800_000).default(0),
  })
  .refine(oneOf, oneOfText)
  .meta({ id: 'StartProcess' })
export type StartProcess = z.output<typeof StartProcess>

/** A process of a sandbox. Times are unix milliseconds. */
export const Process = z
  .object({
    id: z.string(),
    pid: z.int().nullable(),
    argv: z.array(z.string()),
    cwd: z.string(),
    started_at: z.int(),
    ended_at: z.int().nullable(),
    exit: Exit.nullable(),
    timed_out: z.boolean(),
    /** Sequence number of the newest event. */
    last_seq: z.int(),
    /** Sequence number of the oldest event that is still kept. */
    first_seq: z.int(),
  })
  .meta({ id: 'Process' })
export type Process = z.infer<typeof Process>

/**
 * One event of a process. `text` when the bytes are UTF-8 (no character is ever cut in two), else `base64`.
 * `gap`: the events `from` to `to` were dropped from the log before this reader got to them.
 */
export const ProcessEvent = z
  .discriminatedUnion('type', [
    z.object({ type: z.literal('stdout'), seq: z.int(), text: z.string().optional(), base64: z.string().optional() }),
    z.object({ type: z.literal('stderr'), seq: z.int(), text: z.string().optional(), base64: z.string().optional() }),
    z.object({ type: z.literal('gap'), from: z.int(), to: z.int() }),
    z.object({ type: z.literal('exit'), seq: z.int(), exit: Exit, timed_out: z.boolean(), duration_ms: z.number() }),
  ])
  .meta({ id: 'ProcessEvent' })
export type ProcessEvent = z.infer<typeof ProcessEvent>

export const signalNames = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGKILL',
  'SIGUSR1',
  'SIGUSR2',
  'SIGTERM',
  'SIGCONT',
  'SIGSTOP',
  'SIGTSTP',
  'SIGWINCH',
] as const

export const EventsQuery = z.object({
  /** Number of the last event that the reader has; the stream goes on after it. `Last-Event-ID` says the same. */
  cursor: z.coerce.number().int().min(0).optional(),
})

const base = '/api/sandboxes/{id}/processes'
const one = { access: 'write', tier: 'write', singleton: true } as const

export const processRoutes = {
  exec: route({
    method: 'POST',
    path: '/api/sandboxes/{id}/exec',
    summary: 'Run a command and answer its whole output.',
    audit: 'process.exec',
    ...one,
    body: ExecRequest,
    response: ExecResult,
  }),
  start: route({
    method: 'POST',
    path: base,
    summary: 'Start a process in the background.',
    audit: 'process.start',
    ...one,
    body: StartProcess,
    status: 201,
    response: Process,
  }),
  list: route({
    method: 'GET',
    path: base,
    summary: 'List the processes that were started here, running and ended.',
    ...one,
    access: 'read',
    tier: 'read',
    response: z.object({ processes: z.array(Process) }),
  }),
  get: route({
    method: 'GET',
    path: `${base}/{pid}`,
    summary: 'Read one process.',
    ...one,
    access: 'read',
    tier: 'read',
    response: Process,
  }),
  events: route({
    method: 'GET',
    path: `${base}/{pid}/events`,
    summary: 'Follow output and exit, from any event on; a reader that reconnects loses and repeats nothing.',
    ...one,
    access: 'read',
    tier: 'read',
    query: EventsQuery,
    response: ProcessEvent,
    stream: 'events',
  }),
  stdin: route({
    method: 'POST',
    path: `${base}/{pid}/stdin`,
    summary: 'Write bytes to standard input; close=true ends it.',
    ...one,
    tier: 'interactive',
    query: z.object({ close: z.enum(['true', 'false']).default('false') }),
    upload: true,
    response: z.object({ bytes: z.int() }),
  }),
  signal: route({
    method: 'POST',
    path: `${base}/{pid}/signal`,
    summary: 'Send a signal to the process and its whole group.',
    audit: 'process.signal',
    ...one,
    body: z.object({ signal: z.enum(signalNames).default('SIGTERM') }),
    response: z.object({ success: z.literal(true) }),
  }),
  remove: route({
    method: 'DELETE',
    path: `${base}/{pid}`,
    summary: 'Kill the process and its group, and forget its output.',
    audit: 'process.remove',
    ...one,
    response: z.object({ deleted: z.literal(true) }),
  }),
}
