import type { auditRoutes } from '@atoll/protocol'
import type { Audit } from '../../audit/audit.ts'
import type { Handlers } from '../call.ts'
import { ownerOf } from '../mount.ts'

export interface AuditParts {
  readonly audit: Audit
}

export const auditHandlers = ({ audit }: AuditParts): Handlers<typeof auditRoutes> => ({
  list: async ({ request: { query }, caller }) => {
    const owners = [ownerOf(caller), query.owner].filter((owner) => owner !== undefined)
    const entries = await audit.list({ owners, action: query.action, cursor: query.cursor, limit: query.limit })
    return { entries, next_cursor: entries.at(-1)?.seq ?? query.cursor }
  },
  head: () => audit.head(),
})
