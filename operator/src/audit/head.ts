// Where the log ends, authenticated with a key that is not in the store: who can only write the store cannot make it up.
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { type AuditEntry, auditGenesis, auditText } from '@atoll/protocol'
import { z } from 'zod'
import { readPrivateFile, writePrivateFile } from '../secrets/private-file.ts'
import type { Secret } from '../secrets/secret.ts'

export interface Head {
  readonly seq: number
  readonly hash: string
}

export const noEntry: Head = { seq: 0, hash: auditGenesis }

export const SealedHead = z.object({ seq: z.int(), hash: z.string(), keyId: z.string(), mac: z.string() })
export type SealedHead = z.infer<typeof SealedHead>

/** The operator's keys, as far as they are needed here. */
export interface HeadKeys {
  readonly activeKeyId: string
  /** The key of an id; undefined: the operator does not have it. */
  auditKey(keyId: string): Secret<Uint8Array> | undefined
}

export const hashOf = (entry: Omit<AuditEntry, 'hash'>): string => createHash('sha256').update(auditText(entry)).digest('hex')

function macOf(keys: HeadKeys, keyId: string, { seq, hash }: Head): string | undefined {
  const key = keys.auditKey(keyId)
  return key && createHmac('sha256', key.reveal()).update(`atoll audit head\n${seq}\n${hash}`).digest('hex')
}

export const sealHead = (keys: HeadKeys, { seq, hash }: Head): SealedHead => {
  const keyId = keys.activeKeyId
  return { seq, hash, keyId, mac: macOf(keys, keyId, { seq, hash }) ?? '' }
}

export function isAuthentic(keys: HeadKeys, head: SealedHead): boolean {
  const right = Buffer.from(macOf(keys, head.keyId, head) ?? '')
  const shown = Buffer.from(head.mac)
  return right.length > 0 && right.length === shown.length && timingSafeEqual(right, shown)
}

/** A copy of the end in a file of its own, so that a store that was cut off or put back to an earlier day shows. */
export interface HeadFile {
  /** @throws Failure `config.invalid` when others may read it, or it is no such file */
  read(): Promise<SealedHead | undefined>
  write(head: SealedHead): Promise<void>
}

export const headFile = (file: string): HeadFile => ({
  read: async () => {
    const text = await readPrivateFile(file)
    if (text === undefined) return undefined
    const parsed = SealedHead.safeParse(jsonOf(text))
    // What cannot be read is not what was written, which is told as a difference and keeps nobody from working.
    return parsed.success ? parsed.data : { ...noEntry, keyId: '', mac: '' }
  },
  write: (head) => writePrivateFile(file, `${JSON.stringify(head)}\n`),
})

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // It fits no schema then.
  }
}
