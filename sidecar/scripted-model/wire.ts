// What the protocols share: identifiers and the form in which their writers hand over a stream.
import { randomBytes } from 'node:crypto'
import type { Reply } from './reply.ts'

export interface StreamEvent {
  readonly name?: string
  /** An object is sent as JSON. Undefined: nothing is sent, for this protocol does not tell what the model is at. */
  readonly data: unknown
  /** A piece of the answer, or of a tool's arguments, where a stream may be cut. `other`: a piece of something else. */
  readonly piece?: 'text' | 'arguments' | 'other'
}

export interface Writer {
  readonly whole: (reply: Reply) => unknown
  readonly stream: (reply: Reply) => Iterable<StreamEvent>
  readonly failure: (status: number, message: string) => unknown
}

export const newId = (prefix: string): string => prefix + randomBytes(9).toString('hex')

/** The text of an answer, which may end in a call. */
export function textPieces({ action }: Reply): readonly string[] {
  if (action.type === 'text') return action.pieces
  return action.type === 'call' ? action.said : []
}

export const answerText = (reply: Reply): string => textPieces(reply).join('')

/** Arguments reach clients in pieces too. */
export function argumentPieces(json: string, count: number): string[] {
  const places = Array.from({ length: count + 1 }, (_, index) => Math.floor((index * json.length) / count))
  return places.flatMap((start, index) => json.slice(start, places[index + 1] ?? start) || [])
}
