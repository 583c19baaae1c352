// What happens in a run of an agent, in one model for every harness.
import { z } from 'zod'

/** What a tool does, whatever its harness calls it. */
export const ToolKind = z.enum(['shell', 'edit', 'read', 'search', 'fetch', 'mcp', 'subagent', 'skill', 'todo', 'other'])
export type ToolKind = z.infer<typeof ToolKind>

/** Why a run or one of its attempts failed. */
export const agentErrorCodes = [
  /** No credential, or the provider refused it. */
  'auth',
  'rate_limit',
  'overloaded',
  /** The provider failed. */
  'server',
  /** The provider could not be reached, or its answer was cut. */
  'network',
  /** The model does not exist, or this credential may not use it. */
  'model_not_found',
  /** The conversation is longer than the model takes. */
  'context',
  /** The harness does not know the conversation that was to go on. */
  'session_not_found',
  /** The harness, or a setting of it, is not what it should be. */
  'config',
  'timeout',
  /** The harness ended without saying how. */
  'lost',
  'internal',
] as const
export type AgentErrorCode = (typeof agentErrorCodes)[number]

export const AgentError = z.object({
  code: z.enum(agentErrorCodes),
  message: z.string(),
  /** What the provider answered, when it did. */
  http_status: z.int().optional(),
  /** Whether the same prompt may succeed later. */
  retryable: z.boolean(),
})
export type AgentError = z.infer<typeof AgentError>

export const permissionDecisions = ['allow_once', 'allow_always', 'reject'] as const
export const PermissionDecision = z.enum(permissionDecisions)
export type PermissionDecision = z.infer<typeof PermissionDecision>

/** Tokens. `input` is without the cached ones; `cache_read` and `cache_write` are beside it. */
export const Usage = z.object({
  input: z.int(),
  output: z.int(),
  cache_read: z.int(),
  cache_write: z.int(),
  /** Of the output, where the harness says so. */
  reasoning: z.int(),
  cost_usd: z.number().optional(),
})
export type Usage = z.infer<typeof Usage>

/** How a turn ended. Never told from an exit status. */
export const RunOutcome = z.enum(['completed', 'cancelled', 'failed', 'max_turns'])
export type RunOutcome = z.infer<typeof RunOutcome>

/** On every event. `seq` counts from 1 without a hole; `at` is unix milliseconds. */
const envelope = {
  seq: z.int(),
  at: z.int(),
  /** The tool call that started the subagent this event is of. */
  parent_tool_id: z.string().optional(),
}
const event = <const Type extends string, Shape extends z.ZodRawShape>(type: Type, shape: Shape) =>
  z.object({ ...envelope, type: z.literal(type), ...shape })

/**
 * One event of a run. `run.finished` comes exactly once and is the last.
 * `text.done` is the truth and replaces the deltas of its message; `text.reset` takes them back, as after an answer that was cut.
 * `gap`: the events `from` to `to` are not kept any more.
 */
export const AgentEvent = z
  .discriminatedUnion('type', [
    event('run.started', { harness: z.string(), version: z.string().optional(), model: z.string().optional(), cwd: z.string() }),
    /** What the harness itself calls the conversation. */
    event('session.linked', { native_session_id: z.string() }),
    event('mcp.status', { name: z.string(), status: z.enum(['connected', 'failed', 'pending']), message: z.string().optional() }),
    event('text.delta', { message_id: z.string(), text: z.string() }),
    event('text.done', { message_id: z.string(), text: z.string() }),
    event('text.reset', { message_id: z.string() }),
    event('reasoning.delta', { message_id: z.string(), text: z.string() }),
    event('reasoning.done', { message_id: z.string(), text: z.string() }),
    event('tool.started', {
      tool_id: z.string(),
      name: z.string(),
      kind: ToolKind,
      title: z.string().optional(),
      input: z.unknown().optional(),
    }),
    event('tool.updated', {
      tool_id: z.string(),
      input: z.unknown().optional(),
      input_delta: z.string().optional(),
      output_delta: z.string().optional(),
    }),
    event('tool.finished', {
      tool_id: z.string(),
      status: z.enum(['ok', 'error', 'denied', 'cancelled']),
      output: z.string().optional(),
      exit_code: z.int().optional(),
      duration_ms: z.number().optional(),
    }),
    /** Also for what a shell command of the run did to the workspace. `path` is relative to it, or absolute outside. */
    event('file.changed', {
      path: z.string(),
      change: z.enum(['add', 'modify', 'delete']),
      diff: z.string().optional(),
      tool_id: z.string().optional(),
    }),
    event('permission.requested', {
      request_id: z.string(),
      tool_id: z.string().optional(),
      name: z.string(),
      kind: ToolKind,
      input: z.unknown().optional(),
      options: z.array(PermissionDecision),
    }),
    event('permission.resolved', {
      request_id: z.string(),
      decision: PermissionDecision,
      by: z.enum(['caller', 'timeout', 'cancel']),
    }),
    /** `step`: one answer of the model. `run`: all of this run, once, before its end. */
    event('usage', { scope: z.enum(['step', 'run']), ...Usage.shape }),
    event('retry', { attempt: z.int(), delay_ms: z.int().optional(), http_status: z.int().optional(), message: z.string() }),
    event('warning', { message: z.string() }),
    event('run.finished', {
      outcome: RunOutcome,
      /** The last answer. */
      text: z.string().optional(),
      stop_reason: z.string().optional(),
      error: AgentError.optional(),
      duration_ms: z.number(),
      /** When the program of the harness was started, in unix milliseconds. */
      program_started_at: z.int().optional(),
    }),
    z.object({ type: z.literal('gap'), from: z.int(), to: z.int() }),
  ])
  .meta({ id: 'AgentEvent' })
export type AgentEvent = z.infer<typeof AgentEvent>
