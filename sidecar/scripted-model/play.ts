// Sends a reply: whole or as an event stream, with its pauses, silences and cuts.
import type { ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Reply } from './reply.ts'
import { newId, type StreamEvent, type Writer } from './wire.ts'

/** So many pieces of text a stream sends before it falls silent or is cut. */
const piecesBeforeStall = 3
const piecesBeforeDrop = 2

export function sendJson(response: ServerResponse, status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(body))
}

function write(response: ServerResponse, { name, data }: StreamEvent): void {
  const lines = [...(name ? [`event: ${name}`] : []), `data: ${typeof data === 'string' ? data : JSON.stringify(data)}`]
  response.write(`${lines.join('\n')}\n\n`)
}

async function playStream(response: ServerResponse, reply: Reply, events: Iterable<StreamEvent>): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', 'request-id': newId('req_') })
  const ending = reply.action.type === 'text' ? reply.action.ending : 'complete'
  let sent = 0
  for (const event of events) {
    if (response.destroyed) return
    write(response, event)
    if (event.piece === 'text') sent++
    if (ending === 'stall' && sent === piecesBeforeStall) return
    if (ending === 'drop' && sent === piecesBeforeDrop) {
      // What was sent shall arrive before the cut does.
      await delay(50)
      response.destroy()
      return
    }
    if (event.piece && reply.pauseMs > 0) await delay(reply.pauseMs)
  }
  response.end()
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
  else if (action.type === 'text' && action.ending === 'drop') response.destroy()
  else if (action.type !== 'text' || action.ending !== 'stall') sendJson(response, 200, writer.whole(reply))
}
