// Agents in a sandbox: which harnesses are there, conversations with them, and runs.
import { z } from 'zod'
import { AgentError, AgentEvent, PermissionDecision, RunOutcome, Usage } from './agent-events.ts'
import { byteLength } from './bytes.ts'
import { EventsQuery, workingDirectory } from './processes.ts'
import { route } from './route.ts'
import { Environment, objectOrText } from './sandboxes.ts'

const maxPromptBytes = 1_048_576
/** A prompt of the largest size, whatever its characters become in JSON. */
export const promptBodyBytes = 8 * 1_048_576
const name = z
  .string()
  .min(1)
  .max(64)
  .regex(/^[\w][\w.-]*$/, 'a name has letters, digits, dots, dashes and underscores')
const text = z
  .string()
  .refine((value) => byteLength(value) <= maxPromptBytes, `may have ${maxPromptBytes} bytes`)
  .refine((value) => !value.includes('\0'), 'holds a NUL byte')
export const prompt = text.refine((value) => value.trim() !== '', 'the prompt is empty')

/** `acp:<command>`: any program that speaks the Agent Client Protocol on standard input and output. */
export const HarnessId = z
  .string()
  .max(4096)
  .regex(/^([a-z][a-z0-9-]{0,63}|acp:\S.*)$/s, 'a harness is an id such as those in /api/capabilities, or acp:<command>')

export const McpServer = z.union([
  z.object({ command: z.string().min(1), args: z.array(z.string()).default([]), env: Environment.default({}) }),
  z.object({ url: z.url(), headers: z.record(z.string(), z.string()).default({}) }),
])
export type McpServer = z.output<typeof McpServer>

/** A skill as data: the text of its SKILL.md below the front matter. */
export const Skill = z.object({ description: z.string().min(1).max(4096), content: text })
export const Subagent = z.object({ description: z.string().min(1).max(4096), prompt: text })

/** `auto`: tools run without asking, the sandbox being the wall. `ask`: each is a `permission.requested` event that waits for an answer. */
export const PermissionMode = z.enum(['auto', 'ask'])

export const RunKind = z.enum(['prompt', 'task'])

export const StartRun = z
  .object({
    prompt,
    /** Empty: a new session. A session has one run at a time; others wait in order. */
    session_id: z.string().max(128).default(''),
    /** Empty: the harness of the session, else the image's default. */
    harness: HarnessId.or(z.literal('')).default(''),
    /** Empty: the harness's own choice. */
    model: z.string().max(256).default(''),
    system_prompt: text.default(''),
    /** 0: no limit. */
    max_turns: z.int().min(0).max(10_000).default(0),
    /** 0: 30 minutes. The run is cancelled when it is over. */
    timeout_ms: z.int().min(0).max(86_400_000).default(0),
    /** Empty: the workspace. */
    cwd: workingDirectory.default(''),
    permission_mode: PermissionMode.default('auto'),
    env_json: objectOrText(Environment).default({}),
    mcp_servers: z.record(name, McpServer).default({}),
    skills: z.record(name, Skill).default({}),
    subagents: z.record(name, Subagent).default({}),
    /** Of a new session; empty: the beginning of the prompt. */
    title: z.string().max(256).default(''),
    /** What the caller calls it; a task may have many turns. */
    kind: RunKind.default('prompt'),
  })
  .meta({ id: 'StartRun' })
export type StartRun = z.output<typeof StartRun>
export type StartRunInput = z.input<typeof StartRun>

export const runStates = ['queued', 'running', 'cancelling', 'finished'] as const

/** One prompt in a session. Times are unix milliseconds. */
export const AgentRun = z
  .object({
    id: z.string(),
    session_id: z.string(),
    kind: RunKind,
    harness: z.string(),
    model: z.string(),
    /** Of a list, the first 2000 characters. */
    prompt: z.string(),
    state: z.enum(runStates),
    created_at: z.int(),
    started_at: z.int().nullable(),
    finished_at: z.int().nullable(),
    outcome: RunOutcome.nullable(),
    /** The last answer. */
    text: z.string().nullable(),
    error: AgentError.nullable(),
    usage: Usage.nullable(),
    /** Sequence number of the newest event. */
    last_seq: z.int(),
  })
  .meta({ id: 'AgentRun' })
export type AgentRun = z.infer<typeof AgentRun>

/** A conversation with one harness. It outlives a stop of the sandbox. */
export const AgentSession = z
  .object({
    id: z.string(),
    title: z.string(),
    harness: z.string(),
    native_session_id: z.string().nullable(),
    created_at: z.int(),
    /** Its run that is queued or under way. */
    active_run_id: z.string().nullable(),
    run_ids: z.array(z.string()),
  })
  .meta({ id: 'AgentSession' })
export type AgentSession = z.infer<typeof AgentSession>

/** A harness as this sandbox has it. */
export const SandboxHarness = z
  .object({
    id: z.string(),
    label: z.string(),
    version: z.string().nullable(),
    mcp: z.boolean(),
    skills: z.boolean(),
    subagents: z.boolean(),
    /** Whether what it needs to reach a model is there. */
    credentials_available: z.boolean(),
    is_default: z.boolean(),
  })
  .meta({ id: 'SandboxHarness' })
export type SandboxHarness = z.infer<typeof SandboxHarness>

const base = '/api/sandboxes/{id}/agents'
const write = { access: 'write', tier: 'write', singleton: true } as const
const read = { method: 'GET', access: 'read', tier: 'read', singleton: true } as const

export const agentRoutes = {
  list: route({
    ...read,
    path: base,
    summary: 'The harnesses of the sandbox. `agents` and `count` are what clients of the reference read.',
    response: z.object({
      harnesses: z.array(SandboxHarness),
      agents: z.array(z.object({ identifier: z.string(), displayName: z.string(), description: z.string() })),
      count: z.int(),
    }),
  }),
  start: route({
    method: 'POST',
    path: `${base}/runs`,
    summary: 'Give an agent a prompt, in a new session or an earlier one.',
    audit: 'agent.run',
    ...write,
    body: StartRun,
    maxBodyBytes: promptBodyBytes,
    status: 202,
    response: AgentRun,
  }),
  runs: route({
    ...read,
    path: `${base}/runs`,
    summary: 'Runs, newest first. Whatever only reads what agents did answers while the sandbox is stopped, too.',
    response: z.object({ runs: z.array(AgentRun) }),
  }),
  run: route({ ...read, path: `${base}/runs/{rid}`, summary: 'Read one run.', response: AgentRun }),
  events: route({
    ...read,
    path: `${base}/runs/{rid}/events`,
    summary: 'Follow a run from any event on; it ends after `run.finished`, or when the sandbox is stopped after what there is.',
    query: EventsQuery,
    response: AgentEvent,
    stream: 'events',
  }),
  cancel: route({
    method: 'POST',
    path: `${base}/runs/{rid}/cancel`,
    summary: 'End a run and every process it started. A finished run answers as it is.',
    audit: 'agent.cancel',
    ...write,
    response: AgentRun,
  }),
  permit: route({
    method: 'POST',
    path: `${base}/runs/{rid}/permissions/{request_id}`,
    summary: 'Answer a `permission.requested` event.',
    audit: 'agent.permit',
    ...write,
    tier: 'interactive',
    body: z.object({ decision: PermissionDecision }),
    response: z.object({ success: z.literal(true) }),
  }),
  sessions: route({
    ...read,
    path: `${base}/sessions`,
    summary: 'Conversations, newest first.',
    response: z.object({ sessions: z.array(AgentSession) }),
  }),
  createSession: route({
    method: 'POST',
    path: `${base}/sessions`,
    summary: 'Begin a conversation without a prompt.',
    audit: 'agent.session_create',
    ...write,
    body: z.object({ title: z.string().max(256).default(''), harness: HarnessId.or(z.literal('')).default('') }),
    status: 201,
    response: AgentSession,
  }),
  session: route({ ...read, path: `${base}/sessions/{sid}`, summary: 'Read one conversation.', response: AgentSession }),
  transcript: route({
    ...read,
    path: `${base}/sessions/{sid}/transcript`,
    summary: 'Every prompt and event of a conversation, a JSON document a line.',
    audit: 'agent.transcript',
    stream: 'bytes',
  }),
  removeSession: route({
    method: 'DELETE',
    path: `${base}/sessions/{sid}`,
    summary: 'Forget a conversation that has no active run.',
    audit: 'agent.session_remove',
    ...write,
    response: z.object({ deleted: z.literal(true), session_id: z.string() }),
  }),
}
