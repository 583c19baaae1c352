import type { AuditAction, AuditDetail, AuditEntry } from '@atoll/protocol'

/** Something that was done or refused. No text that was run, typed or sent may be in it, and no value of a secret. */
export interface Happening {
  readonly actor: AuditEntry['actor']
  readonly action: AuditAction
  readonly subject: string
  /** Whose subject it is. */
  readonly owner: string
  readonly outcome: string
  readonly client: string
  readonly detail: AuditDetail
}

/** What the operator did by itself. */
export const ofOperator = (action: AuditAction, detail: AuditDetail): Happening => ({
  ...{ actor: { owner: '', via: 'operator' as const, id: '' }, action, subject: '', owner: '', outcome: 'ok', client: '' },
  detail,
})
