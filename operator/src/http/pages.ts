// Cursors of lists that are newest first, and keys under which a call may be repeated.
import { createHash } from 'node:crypto'
import { Failure } from '@atoll/protocol'
import type { Idempotency } from '../sandboxes/store.ts'

interface Place {
  readonly createdAt: number
  readonly id: string
}

export const cursorOf = ({ createdAt, id }: Place): string => Buffer.from(`${createdAt}:${id}`).toString('base64url')

/** @throws Failure `request.invalid` */
export function afterOf(cursor: string | undefined): Place | undefined {
  if (cursor === undefined) return undefined
  const [, createdAt, id] = /^(\d{1,16}):(.{1,128})$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? []
  if (createdAt === undefined || id === undefined)
    throw new Failure('request.invalid', 'The cursor is not one of this operator. Start without one.')
  return { createdAt: Number(createdAt), id }
}

/** The key of the header, with a hash of what was asked. @throws Failure `request.invalid` */
export function idempotencyOf(header: string | string[] | undefined, asked: unknown): Idempotency | undefined {
  if (header === undefined) return undefined
  if (Array.isArray(header) || !/^[\x21-\x7e]{1,255}$/.test(header)) {
    throw new Failure('request.invalid', 'An Idempotency-Key has 1 to 255 printable characters without spaces.')
  }
  return { key: header, fingerprint: createHash('sha256').update(JSON.stringify(asked)).digest('hex') }
}
