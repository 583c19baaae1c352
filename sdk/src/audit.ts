import { type AuditEntry, type AuditHead, routes } from '@atoll/protocol'
import { type AuditProblem, ChainReader } from './audit-chain.ts'
import type { Connection } from './connection.ts'

export interface AuditListOptions {
  /** Number of the last entry that is known; 0 when not given. */
  readonly cursor?: number | undefined
  /** Who did it, or whose it was done to. */
  readonly owner?: string | undefined
  /** A name such as `secret.read`, or the first part of several, such as `secret`. */
  readonly action?: string | undefined
}

/** An entry that was noted down elsewhere, as its number and hash. */
export interface AuditAnchor {
  readonly seq: number
  readonly hash: string
}

export interface AuditVerdict {
  /** Nothing was changed, left out, put in or cut off. */
  readonly isIntact: boolean
  /** Entries that were read. */
  readonly entries: number
  /** Number of the first that is kept: above 1 when older ones were forgotten. */
  readonly firstSeq: number
  /** Where the log ended when it was asked for; worth to be noted down elsewhere. */
  readonly head: AuditAnchor
  /** The first thing that is wrong. */
  readonly problem?: AuditProblem
}

const pageSize = 1000

/** Who did what: yours, or everybody's for an admin. */
export class Audit {
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** Entries, oldest first, up to the last one that there is now. */
  async *entries({ cursor = 0, owner, action }: AuditListOptions = {}): AsyncGenerator<AuditEntry> {
    for (let after = cursor; ; ) {
      const query = { cursor: after, limit: pageSize, ...(owner !== undefined && { owner }), ...(action !== undefined && { action }) }
      const page = await this.#connection.call(routes.audit.list, { query })
      yield* page.entries
      if (page.entries.length < pageSize) return
      after = page.next_cursor
    }
  }

  /**
   * Reads the whole log and reckons its chain anew.
   * @param options.anchor an entry that was noted down earlier, which must still be the same
   * @throws Failure `auth.forbidden` for who is no admin: who sees a part cannot tell whether it is whole
   */
  async verify({ anchor }: { readonly anchor?: AuditAnchor | undefined } = {}): Promise<AuditVerdict> {
    const head = await this.#connection.call(routes.audit.head, {})
    const reader = new ChainReader()
    let problem: AuditProblem | undefined
    let anchored: string | undefined
    for await (const entry of this.entries()) {
      // What was added since is the next one's to look at; but a checkpoint in it may stand for what was forgotten meanwhile.
      if (entry.seq > head.seq && entry.action !== 'audit.prune') continue
      if (entry.seq === anchor?.seq) anchored = entry.hash
      problem ??= entry.seq > head.seq ? reader.sees(entry) : await reader.read(entry)
    }
    problem ??= reader.end(head) ?? wrongAnchor(anchor, anchored) ?? earliest(head)
    const { seq, hash } = head
    const common = { entries: reader.count, firstSeq: reader.firstSeq, head: { seq, hash } }
    return problem ? { ...common, isIntact: false, problem } : { ...common, isIntact: true }
  }
}

function wrongAnchor(anchor: AuditAnchor | undefined, found: string | undefined): AuditProblem | undefined {
  if (!anchor || found === anchor.hash) return undefined
  return {
    seq: anchor.seq,
    problem: found === undefined ? 'the entry that was noted down is not kept' : 'the entry is not the one that was noted down',
  }
}

const earliest = ({ problems }: AuditHead): AuditProblem | undefined => [...problems].sort((one, other) => one.seq - other.seq)[0]
