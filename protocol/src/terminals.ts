import { z } from 'zod'
import { byteLength } from './bytes.ts'
import { EventsQuery, workingDirectory } from './processes.ts'
import { route } from './route.ts'
import { Environment, objectOrText } from './sandboxes.ts'

const side = (name: string) => z.int().min(1, `${name} must be between 1 and 1000`).max(1000, `${name} must be between 1 and 1000`)

export const TerminalSize = z.object({ cols: side('cols'), rows: side('rows') })

export const OpenTerminal = z
  .object({
    cwd: workingDirectory.default(''),
    cols: side('cols').default(80),
    rows: side('rows').default(24),
    title: z.string().max(128).optional(),
    env_json: objectOrText(Environment).default({}),
  })
  .meta({ id: 'OpenTerminal' })
export type OpenTerminal = z.output<typeof OpenTerminal>

/** A terminal session. `running` turns false when its shell ends; the session is listed until it is deleted or expires. */
export const Terminal = z
  .object({
    session_id: z.string(),
    title: z.string().optional(),
    cols: z.int(),
    rows: z.int(),
    running: z.boolean(),
    created_at: z.int(),
  })
  .meta({ id: 'Terminal' })
export type Terminal = z.infer<typeof Terminal>

/** Output of a terminal as the reference's web client shows it; `properties.text` is what the PTY wrote. */
export const TerminalEvent = z
  .union([
    z.object({ type: z.literal('data.stdout'), properties: z.object({ text: z.string() }) }),
    z.object({ type: z.literal('gap'), from: z.int(), to: z.int() }),
    z.object({ type: z.literal('exit'), code: z.int().nullable(), signal: z.string().nullable() }),
  ])
  .meta({ id: 'TerminalEvent' })
export type TerminalEvent = z.infer<typeof TerminalEvent>

const base = '/api/sandboxes/{id}/live/terminal/sessions'

/**
 * What a browser offers as `Sec-WebSocket-Protocol`, having no other header to put a credential in: the first name, which is answered, and
 * one of the second with a session token or API key behind it, which is neither answered nor passed on.
 */
export const terminalProtocol = { name: 'atoll.terminal', credential: 'atoll.credential.' } as const
const one = { access: 'write', tier: 'write', singleton: true } as const

export const terminalRoutes = {
  list: route({
    method: 'GET',
    path: base,
    summary: 'List terminal sessions.',
    ...one,
    access: 'read',
    tier: 'read',
    response: z.object({ sessions: z.array(Terminal) }),
  }),
  open: route({
    method: 'POST',
    path: base,
    summary: 'Open a terminal session.',
    audit: 'terminal.open',
    ...one,
    body: OpenTerminal,
    response: Terminal,
  }),
  stream: route({
    method: 'GET',
    path: `${base}/{sid}/stream`,
    summary: 'Follow what the terminal writes; without a cursor the kept scrollback comes first. Any number of viewers.',
    ...one,
    access: 'read',
    tier: 'read',
    query: EventsQuery,
    response: TerminalEvent,
    stream: 'events',
  }),
  socket: route({
    method: 'GET',
    path: `${base}/{sid}/socket`,
    summary:
      'The terminal over a WebSocket: binary frames are bytes both ways; a text frame {"cols","rows"} resizes. A browser, which can set no headers, offers the protocols `atoll.terminal` and `atoll.credential.<session token or API key>`.',
    audit: 'terminal.attach',
    ...one,
    tier: 'interactive',
    query: EventsQuery,
    stream: 'websocket',
  }),
  resize: route({
    method: 'PATCH',
    path: `${base}/{sid}`,
    summary: 'Resize a terminal.',
    ...one,
    tier: 'interactive',
    body: TerminalSize,
    response: z.object({ success: z.literal(true) }),
  }),
  input: route({
    method: 'POST',
    path: `${base}/{sid}/input`,
    summary: 'Type into a terminal.',
    ...one,
    tier: 'interactive',
    body: z.object({ data: z.string().refine((value) => byteLength(value) <= 102_400, 'data exceeds maximum length (102400 bytes)') }),
    response: z.object({ success: z.literal(true) }),
  }),
  close: route({
    method: 'DELETE',
    path: `${base}/{sid}`,
    summary: 'End a terminal session.',
    audit: 'terminal.close',
    ...one,
    response: z.object({ deleted: z.literal(true), session_id: z.string() }),
  }),
}
