// The audit log: who did what, in one chain that nobody changes unseen.
import { type AuditEntry, type AuditHead, auditActions, Failure } from '@atoll/protocol'
import type { Logger } from 'pino'
import { type Happening, ofOperator } from './happening.ts'
import { type Head, type HeadFile, type HeadKeys, hashOf, isAuthentic, noEntry, type SealedHead, sealHead } from './head.ts'
import { Repeats } from './repeats.ts'
import type { AuditFilter, AuditStore } from './store.ts'

export interface AuditParts {
  readonly store: AuditStore
  readonly keys: HeadKeys
  readonly file: HeadFile
  readonly now: () => number
  readonly log: Logger
}

type Waiting = Happening & { readonly at: number; readonly count: number }

/** How long what need not be written at once waits for more. */
const soonMs = 250
/** How long after the store the file may know the end. */
const fileMs = 500
const doneMs = 1000
const refusedMs = 60_000
const mostTold = 2000
/** Entries that wait for a disk that takes none. */
const mostWaiting = 20_000
const pieceEntries = 5000
const dayMs = 86_400_000

export class Audit {
  readonly #parts: AuditParts
  readonly #repeats: Repeats
  #head: Head
  #fileHead: Head
  #waiting: Waiting[] = []
  #lost = 0
  #prunedAt = Number.NEGATIVE_INFINITY
  /** Goes with the checkpoint that waits. */
  #forgetUpTo: number | undefined
  #timer: NodeJS.Timeout | undefined
  #fileTimer: NodeJS.Timeout | undefined
  #writing: Promise<void> | undefined
  #writingFile: Promise<void> = Promise.resolve()

  private constructor(parts: AuditParts, head: Head, fileHead: Head) {
    this.#parts = parts
    this.#head = head
    this.#fileHead = fileHead
    this.#repeats = new Repeats({ now: parts.now, doneMs, refusedMs, most: mostTold })
  }

  /** Goes on where the log ends. When that is not where the operator left it, it says so, in the log itself. */
  static async open(parts: AuditParts): Promise<Audit> {
    const { store, file, log } = parts
    const last = await store.last()
    const known = await file.read()
    const problem = await mismatchOf(parts, last, known)
    const found = last ?? noEntry
    const expected = known && isAuthentic(parts.keys, known) ? known.seq : 0
    // No number is given twice, so that what is missing stays missing.
    const audit = new Audit(parts, { seq: Math.max(found.seq, expected), hash: found.hash }, known ?? noEntry)
    if (problem !== undefined) {
      log.error({ problem, found: found.seq, expected }, 'the audit log is not as this operator left it')
      await audit.record(ofOperator('audit.mismatch', { problem, found_seq: found.seq, expected_seq: expected }))
    }
    return audit
  }

  /**
   * Writes it down: a change before this resolves, anything else within a second. What is done again within a second, and refused again
   * within a minute, is counted.
   * @throws Failure `store.unavailable` when a change cannot be written down; it is tried again
   */
  async record(happening: Happening): Promise<void> {
    if (happening.outcome === 'ok' && auditActions[happening.action][0] === 'before_answer') {
      this.#wait(happening, 1)
      return this.#write()
    }
    const told = this.#repeats.take(happening)
    if (told) this.#wait(told, 1)
    this.#writeSoon()
  }

  list(filter: AuditFilter): Promise<AuditEntry[]> {
    return this.#parts.store.list(filter)
  }

  /** Where the log ends, and what of its end is not as it was left. */
  async head(): Promise<AuditHead> {
    await this.#write()
    await this.#writeFile()
    const { store, keys, file } = this.#parts
    const sealed = await store.head()
    // Nothing is written between the two.
    const { seq, hash } = this.#head
    const known = await file.read()
    const problems: AuditHead['problems'] = []
    const add = (problem: string, at: number): void => void problems.push({ seq: at, problem })
    if (seq > 0 && !sealed) add('the authenticated end is gone from the database', seq)
    if (sealed && !isAuthentic(keys, sealed)) add('the end in the database was not written by this operator', sealed.seq)
    else if (sealed && (sealed.seq !== seq || sealed.hash !== hash))
      add('the end in the database is another one', Math.min(sealed.seq, seq))
    if (seq > 0 && !known) add('the file that keeps the end is gone', seq)
    if (known && !isAuthentic(keys, known)) add('the file that keeps the end was not written by this operator', known.seq)
    return { seq, hash, key_id: keys.activeKeyId, problems }
  }

  /** Forgets what is older, once a day, a piece at a time, and leaves a checkpoint for each piece. */
  async prune(days: number): Promise<void> {
    const { store, now } = this.#parts
    if (Math.abs(now() - this.#prunedAt) < dayMs) return
    this.#prunedAt = now()
    const before = now() - days * dayMs
    for (let due = await store.due(before, pieceEntries); due; due = await store.due(before, pieceEntries)) {
      this.#forgetUpTo = due.upTo
      this.#wait(ofOperator('audit.prune', { up_to: due.upTo, hash: due.hash }), 1)
      await this.#write()
      await new Promise(setImmediate)
    }
  }

  /** Everything is written down. */
  async close(): Promise<void> {
    for (const { happening, count } of this.#repeats.due(true)) this.#wait(happening, count)
    clearTimeout(this.#timer)
    await this.#write()
    clearTimeout(this.#fileTimer)
    await this.#writeFile()
  }

  #wait(happening: Happening, count: number): void {
    if (this.#waiting.length >= mostWaiting) this.#lost += count
    else this.#waiting.push({ ...happening, at: this.#parts.now(), count })
  }

  #writeSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      for (const { happening, count } of this.#repeats.due()) this.#wait(happening, count)
      this.#write().catch(() => undefined) // Logged where it happened, and tried again.
      if (this.#repeats.size > 0 || this.#waiting.length > 0) this.#writeSoon()
    }, soonMs).unref()
  }

  /** Those that are asked at once are written as one. */
  async #write(): Promise<void> {
    // What is being written may have begun before this was there.
    await this.#writing?.catch(() => undefined)
    this.#writing ??= new Promise<void>((resolve) => setImmediate(resolve))
      .then(() => this.#writeAll())
      .finally(() => {
        this.#writing = undefined
      })
    return this.#writing
  }

  async #writeAll(): Promise<void> {
    const { store, keys, log, now } = this.#parts
    const lost = this.#lost
    const waiting = lost > 0 ? [...this.#waiting, { ...ofOperator('audit.lost', { entries: lost }), at: now(), count: 1 }] : this.#waiting
    if (waiting.length === 0) return
    const kept = this.#waiting.length
    const entries = chained(this.#head, waiting)
    const end = entries.at(-1) ?? this.#head
    try {
      await store.append(entries, sealHead(keys, end), this.#forgetUpTo)
    } catch (error) {
      log.error({ err: error, waiting: kept }, 'the audit log could not be written; it is tried again')
      this.#writeSoon()
      throw new Failure(
        'store.unavailable',
        'This was done, and could not be written to the audit log yet: the disk of the operator is full, or fails.',
        {
          cause: error,
        },
      )
    }
    this.#waiting = this.#waiting.slice(kept)
    this.#forgetUpTo = undefined
    this.#lost -= lost
    this.#head = { seq: end.seq, hash: end.hash }
    this.#fileTimer ??= setTimeout(() => {
      this.#fileTimer = undefined
      this.#writeFile().catch((error: unknown) => log.error({ err: error }, 'the end of the audit log could not be written to its file'))
    }, fileMs).unref()
  }

  async #writeFile(): Promise<void> {
    this.#writingFile = this.#writingFile
      .catch(() => undefined)
      .then(async () => {
        const head = this.#head
        if (head.seq === this.#fileHead.seq && head.hash === this.#fileHead.hash) return
        await this.#parts.file.write(sealHead(this.#parts.keys, head))
        this.#fileHead = head
      })
    return this.#writingFile
  }
}

function chained(head: Head, waiting: readonly Waiting[]): AuditEntry[] {
  let { seq, hash: prev } = head
  return waiting.map((one) => {
    seq += 1
    const entry = { ...one, seq, prev }
    const hash = hashOf(entry)
    prev = hash
    return { ...entry, hash }
  })
}

/** How the log differs from what the operator left; undefined: it does not. */
async function mismatchOf({ store, keys }: AuditParts, last: Head | undefined, known: SealedHead | undefined): Promise<string | undefined> {
  const sealed = await store.head()
  if (!last && !sealed && !known) return undefined
  if (!sealed || !isAuthentic(keys, sealed)) return 'the end of the log is not authentic'
  if (sealed.seq !== last?.seq || sealed.hash !== last.hash) return 'the log does not end where it should'
  if (!known || !isAuthentic(keys, known)) return 'the file that keeps the end is gone or not authentic'
  if (known.seq > sealed.seq) return 'the log ends before the end that the file keeps'
  // One that was forgotten since cannot be compared; the checkpoint stands for it.
  const hash = await store.hashAt(known.seq)
  return hash === undefined || hash === known.hash ? undefined : 'the log is another one than the file knows'
}
