import { z } from 'zod'
import { route } from './route.ts'

/** How an actor was known. `operator`: the operator itself; `sandbox`: a program in a sandbox; `none`: nobody who showed who they are. */
export const auditVias = ['session', 'api_key', 'link', 'operator', 'sandbox', 'none'] as const

const Detail = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.array(z.string())]))
export type AuditDetail = z.infer<typeof Detail>

/** One entry of the audit log. Texts that were run, typed or sent, and values of secrets, are in none. `at` is unix milliseconds. */
export const AuditEntry = z
  .object({
    /** From 1, without gaps. */
    seq: z.int(),
    at: z.int(),
    actor: z.object({
      owner: z.string(),
      via: z.enum(auditVias),
      /** Of the session or API key; never the credential itself. */
      id: z.string(),
    }),
    /** One of the stable names. */
    action: z.string(),
    /** Id of the sandbox, service or key that it was about; empty: of none, or none that the actor may know of. */
    subject: z.string(),
    /** Whose subject it is, who sees the entry too. */
    owner: z.string(),
    /** `ok`, or the code of the failure. */
    outcome: z.string(),
    /** Address of the client, of IPv6 its /64 network; empty: it came from within. */
    client: z.string(),
    /** Times that the same happened since the entry before of its kind. */
    count: z.int(),
    detail: Detail,
    /** Hash of the entry before; 64 zeros in the first. */
    prev: z.string(),
    /** SHA-256, in hexadecimal, of `auditText`. */
    hash: z.string(),
  })
  .meta({ id: 'AuditEntry' })
export type AuditEntry = z.infer<typeof AuditEntry>

export const auditGenesis = '0'.repeat(64)

/** The one spelling of an entry that is hashed: a JSON array of its parts in this order, the names of the detail sorted. */
export function auditText(entry: Omit<AuditEntry, 'hash'>): string {
  const { seq, at, actor, action, subject, owner, outcome, client, count, detail, prev } = entry
  const sorted = Object.entries(detail).sort(([one], [other]) => (one < other ? -1 : 1))
  return JSON.stringify([
    'atoll.audit.1',
    ...[seq, at, actor.owner, actor.via, actor.id, action, subject, owner, outcome, client, count],
    sorted,
    prev,
  ])
}

/** Where the log ends, by what the operator knows beside it. */
export const AuditHead = z
  .object({
    seq: z.int(),
    hash: z.string(),
    /** The operator's key that the end is authenticated with. */
    key_id: z.string(),
    /** What is not as the operator left it. */
    problems: z.array(z.object({ seq: z.int(), problem: z.string() })),
  })
  .meta({ id: 'AuditHead' })
export type AuditHead = z.infer<typeof AuditHead>

export const auditRoutes = {
  list: route({
    method: 'GET',
    path: '/api/audit',
    summary: 'The audit log, oldest first: what you did and what was done to what is yours; an admin sees all.',
    access: 'read',
    tier: 'read',
    audit: 'audit.read',
    query: z.object({
      /** Number of the last entry that the reader has. */
      cursor: z.coerce.number().int().min(0).default(0),
      limit: z.coerce.number().int().min(1).max(1000).default(100),
      /** Who did it, or whose it was done to. */
      owner: z.string().min(1).max(128).optional(),
      /** A name such as `secret.read`, or the first part of several, such as `secret`. */
      action: z
        .string()
        .regex(/^[a-z_]+(\.[a-z_]+)?$/, 'an action is a name such as secret.read, or secret')
        .optional(),
    }),
    response: z.object({ entries: z.array(AuditEntry), next_cursor: z.int() }),
  }),
  head: route({
    method: 'GET',
    path: '/api/audit/head',
    summary: 'Where the audit log ends, and what of its end is not as the operator left it.',
    access: 'admin',
    tier: 'read',
    response: AuditHead,
  }),
}
