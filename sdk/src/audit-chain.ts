// Whether the entries of an audit log are one chain. It trusts nothing that the entries say of themselves.
import { type AuditEntry, auditGenesis, auditText } from '@atoll/protocol'

export interface AuditProblem {
  /** Number of the first entry that is not as it was written, or that is missing. */
  readonly seq: number
  /** What is wrong with it. */
  readonly problem: string
}

export class ChainReader {
  /** Entries that were read. */
  count = 0
  /** 0: none was read. */
  firstSeq = 0
  #last = { seq: 0, hash: auditGenesis }
  /** What the first one that is kept says of the one before it. */
  #before: string | undefined
  readonly #checkpoints = new Map<number, string>()

  /** What is wrong with the next entry. */
  async read(entry: AuditEntry): Promise<AuditProblem | undefined> {
    const { seq, prev, hash, ...rest } = entry
    this.count += 1
    if (this.firstSeq === 0) {
      this.firstSeq = seq
      this.#last = { seq: seq - 1, hash: prev }
      this.#before = prev
    }
    const { seq: lastSeq, hash: lastHash } = this.#last
    this.#last = { seq, hash }
    if (seq !== lastSeq + 1) return { seq: lastSeq + 1, problem: 'the entry is missing' }
    if (prev !== lastHash) return { seq, problem: 'it does not follow from the entry before' }
    if ((await sha256(auditText({ seq, prev, ...rest }))) !== hash) return { seq, problem: 'it was changed' }
    if (entry.action === 'audit.mismatch') return { seq, problem: `the operator found the log changed: ${String(entry.detail['problem'])}` }
    return this.sees(entry)
  }

  /** Takes note of a checkpoint: it stands for entries that were forgotten. */
  sees({ action, detail }: AuditEntry): undefined {
    if (action === 'audit.prune') this.#checkpoints.set(Number(detail['up_to']), String(detail['hash']))
  }

  /** What is wrong with where it begins or ends. */
  end({ seq, hash }: { readonly seq: number; readonly hash: string }): AuditProblem | undefined {
    if (this.#last.seq < seq) return { seq: this.#last.seq + 1, problem: 'the entry is missing: the log was cut off' }
    if (seq > 0 && this.#last.hash !== hash) return { seq, problem: 'the last entry is not the one that the operator wrote' }
    const before = this.firstSeq === 1 ? auditGenesis : this.#checkpoints.get(this.firstSeq - 1)
    if (this.count === 0 || before === this.#before) return undefined
    const forgotten = Math.max(0, ...[...this.#checkpoints.keys()].filter((upTo) => upTo < this.firstSeq - 1))
    return { seq: forgotten + 1, problem: 'the entry is missing, and no checkpoint says that it was forgotten' }
  }
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}
