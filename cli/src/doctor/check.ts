// What one look at the machine says.

/** `unknown`: it could not be looked at, so nothing is concluded. */
export type CheckStatus = 'ok' | 'warning' | 'problem' | 'unknown'

export interface Check {
  readonly id: string
  readonly title: string
  readonly status: CheckStatus
  /** What was seen. */
  readonly seen: string
  /** What to do about it. */
  readonly advice?: string
}
