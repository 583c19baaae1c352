// Prompts, tasks and chats as clients of the reference know them, over the same sessions and runs as agents.ts.
import { z } from 'zod'
import { prompt, promptBodyBytes } from './agents.ts'
import { route } from './route.ts'
import { objectOrText } from './sandboxes.ts'

/** Clients of the reference send null for what they do not say. */
const orNull = <T extends z.ZodType>(schema: T, absent: z.output<T>) => schema.nullish().transform((value) => value ?? absent)

const Context = z.looseObject({ system_prompt: orNull(z.string(), '') })
const common = {
  /** Empty: a new session. */
  session_id: orNull(z.string().max(128), ''),
  /** A harness by its id; empty or `default`: the session's, else the image's. */
  backend_type: orNull(z.string().max(4096), ''),
  model: orNull(z.string().max(256), ''),
  /** An object, or the JSON text of one; `system_prompt` is read from it. */
  context_json: orNull(objectOrText(Context), { system_prompt: '' }),
  timeout_ms: orNull(z.int().min(0).max(86_400_000), 0),
}

export const PromptRequest = z.object({ message: prompt, ...common }).meta({ id: 'PromptRequest' })
export const TaskRequest = z.object({ prompt, ...common, max_turns: orNull(z.int().min(0).max(10_000), 0) }).meta({ id: 'TaskRequest' })

const Accepted = z.object({
  accepted: z.literal(true),
  run_id: z.string(),
  session_id: z.string(),
  status: z.enum(['queued', 'running']),
  accepted_at: z.int(),
})

export const chatRunStates = ['queued', 'running', 'cancelling', 'completed', 'failed', 'cancelled', 'interrupted'] as const

export const ChatRun = z
  .object({
    id: z.string(),
    session_id: z.string(),
    scope_id: z.string(),
    owner: z.string(),
    kind: z.enum(['prompt', 'task']),
    status: z.enum(chatRunStates),
    request_text: z.string(),
    created_at: z.int(),
    started_at: z.int().optional(),
    completed_at: z.int().optional(),
    sidecar_session_id: z.string().optional(),
    final_output: z.string().optional(),
    error: z.string().optional(),
  })
  .meta({ id: 'ChatRun' })
export type ChatRun = z.infer<typeof ChatRun>

/** `text`, `reasoning` or `tool`; what is in it depends on the type. */
export const ChatPart = z.looseObject({ id: z.string(), type: z.enum(['text', 'reasoning', 'tool']) }).meta({ id: 'ChatPart' })
export type ChatPart = z.infer<typeof ChatPart>

export const ChatMessage = z
  .object({
    id: z.string(),
    run_id: z.string().nullable(),
    role: z.enum(['user', 'assistant']),
    content: z.string(),
    created_at: z.int(),
    completed_at: z.int().optional(),
    parts: z.array(ChatPart).optional(),
    success: z.boolean().optional(),
    error: z.string().optional(),
  })
  .meta({ id: 'ChatMessage' })
export type ChatMessage = z.infer<typeof ChatMessage>

export const ChatProgress = z
  .object({
    seq: z.int(),
    run_id: z.string(),
    status: z.enum(chatRunStates),
    phase: z.string(),
    message: z.string(),
    timestamp_ms: z.int(),
  })
  .meta({ id: 'ChatProgress' })
export type ChatProgress = z.infer<typeof ChatProgress>

const ChatSummary = z.object({ session_id: z.string(), title: z.string(), active_run_id: z.string().optional() })

/** Events of a chat: `event` names what `data` is, as the reference's client knows them. */
const ChatEvent = z.looseObject({}).meta({ id: 'ChatEvent' })

const chat = '/api/sandboxes/{id}/live/chat/sessions'
const write = { access: 'write', tier: 'write', singleton: true } as const
const read = { method: 'GET', access: 'read', tier: 'read', singleton: true } as const

export const chatRoutes = {
  prompt: route({
    method: 'POST',
    path: '/api/sandboxes/{id}/prompt',
    summary: 'Give an agent a prompt; the run goes on in the background.',
    audit: 'agent.run',
    ...write,
    body: PromptRequest,
    maxBodyBytes: promptBodyBytes,
    status: 202,
    response: Accepted,
  }),
  task: route({
    method: 'POST',
    path: '/api/sandboxes/{id}/task',
    summary: 'Give an agent a task, with a limit of turns; the run goes on in the background.',
    audit: 'agent.run',
    ...write,
    body: TaskRequest,
    maxBodyBytes: promptBodyBytes,
    status: 202,
    response: Accepted,
  }),
  sessions: route({
    ...read,
    path: chat,
    summary: 'Chats, newest first; also while the sandbox is stopped.',
    response: z.object({ sessions: z.array(ChatSummary) }),
  }),
  create: route({
    method: 'POST',
    path: chat,
    summary: 'Begin a chat.',
    audit: 'agent.session_create',
    ...write,
    body: z.object({ title: orNull(z.string().max(256), '') }),
    response: ChatSummary,
  }),
  detail: route({
    ...read,
    path: `${chat}/{sid}`,
    summary: 'A chat with its messages and runs.',
    response: z.object({
      session_id: z.string(),
      title: z.string(),
      sidecar_session_id: z.string().optional(),
      active_run_id: z.string().optional(),
      messages: z.array(ChatMessage),
      run_progress: z.array(ChatProgress),
      runs: z.array(ChatRun),
    }),
  }),
  stream: route({
    ...read,
    path: `${chat}/{sid}/stream`,
    summary:
      'Follow a chat; Last-Event-ID is honoured, and a run that is under way is told from its beginning. In a stopped sandbox it goes on when that is resumed.',
    response: ChatEvent,
    stream: 'events',
  }),
  cancel: route({
    method: 'POST',
    path: `${chat}/{sid}/runs/{rid}/cancel`,
    summary: 'Cancel a run. A finished one answers its status.',
    audit: 'agent.cancel',
    ...write,
    response: z.object({
      success: z.literal(true),
      session_id: z.string(),
      run_id: z.string(),
      status: z.enum(chatRunStates),
      cancelled_at: z.int(),
    }),
  }),
  remove: route({
    method: 'DELETE',
    path: `${chat}/{sid}`,
    summary: 'Forget a chat that has no active run.',
    audit: 'agent.session_remove',
    ...write,
    response: z.object({ deleted: z.literal(true), session_id: z.string() }),
  }),
}
