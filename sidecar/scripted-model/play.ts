// Sends a reply: whole or as an event stream, with its pauses, silences and cuts.
import type { ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Reply } from './reply.ts'
import { newId, type StreamEvent, type Writer } from './wire.ts'

/** After so many pieces a stream falls silent or is cut. */
const piecesBefore = { text: { stall: 3, drop: 2 }, arguments: { stall: 1, drop: 1 } } as const

export function sendJson(response: ServerResponse, status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(body))
}

function write(response: ServerResponse, { name, data }: StreamEvent): void {
  const lines = [...(name ? [`event: ${name}`] : []), `data: ${typeof data === 'string' ? data : JSON.stringify(data)}`]
  response.write(`${lines.join('\n')}\n\n`)
}

/** Says after each piece whether something else comes than the next one. */
function cutter({ action }: Reply): (piece: StreamEvent['piece']) => 'stall' | 'drop' | undefined {
  if (!('ending' in action) || action.ending === 'complete') return () => undefined
  const { ending } = action
  const kind = action.type === 'call' ? 'arguments' : 'text'
  let left: number = piecesBefore[kind][ending]
  return (piece) => {
    if (piece === kind) left--
    return left === 0 ? ending : undefined
  }
}

async function playStream(response: ServerResponse, reply: Reply, events: Iterable<StreamEvent>): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', 'request-id': newId('req_') })
  const cutAfter = cutter(reply)
  for (const event of events) {
    if (response.destroyed) return
    if (event.data !== undefined) write(response, event)
    const cut = cutAfter(event.piece)
    if (cut === 'drop') await drop(response)
    if (cut) return
    if (event.piece && reply.pauseMs > 0) await delay(reply.pauseMs)
  }
  response.end()
}

async function drop(response: ServerResponse): Promise<void> {
  // What was sent shall arrive before the cut does.
  await delay(50)
  response.destroy()
}

export interface Playing {
  readonly response: ServerResponse
  readonly reply: Reply
  readonly writer: Writer
  readonly isStream: boolean
}

export async function play({ response, reply, writer, isStream }: Playing): Promise<void> {
  const { action } = reply
  if (action.type === 'hang') return
  if (action.type === 'fail') {
    const { status } = action
    const headers: Record<string, string> = status === 429 ? { 'retry-after': '1' } : {}
    sendJson(response, status, writer.failure(status, `The script asked for ${status}.`), headers)
    return
  }
  if (isStream) await playStream(response, reply, writer.stream(reply))
  else if (action.ending === 'drop') response.destroy()
  else if (action.ending !== 'stall') sendJson(response, 200, writer.whole(reply))
}
