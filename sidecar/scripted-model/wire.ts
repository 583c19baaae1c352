// What the protocols share: identifiers and the form in which their writers hand over a stream.
import { randomBytes } from 'node:crypto'
import type { Reply } from './reply.ts'

export interface StreamEvent {
  readonly name?: string
  /** An object is sent as JSON. */
  readonly data: unknown
  /** `text`: a piece of the answer, where a stream may be cut. `other`: a piece of something else. */
  readonly piece?: 'text' | 'other'
}

export interface Writer {
  readonly whole: (reply: Reply) => unknown
  readonly stream: (reply: Reply) => Iterable<StreamEvent>
  readonly failure: (status: number, message: string) => unknown
}

export const newId = (prefix: string): string => prefix + randomBytes(9).toString('hex')

export const answerText = ({ action }: Reply): string => (action.type === 'text' ? action.pieces.join('') : '')

/** Arguments reach clients in pieces too. */
export function argumentPieces(json: string): string[] {
  const size = Math.max(1, Math.ceil(json.length / 3))
  return Array.from({ length: Math.ceil(json.length / size) }, (_, index) => json.slice(index * size, (index + 1) * size))
}
