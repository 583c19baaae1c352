// Sessions and runs on disk: a folder for each session, with a document for it, one for each run, and the runs' logs.
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { AgentRun, StartRun } from '@atoll/protocol'
import { errnoOf } from '../files/file-failure.ts'
import { describe, type Log } from '../log.ts'
import { keptFolderMode, keptMode, readKept } from './kept-file.ts'

/** What is remembered of a conversation. */
export interface SessionRecord {
  readonly id: string
  title: string
  /** Empty until the first run, when none was asked for. */
  harness: string
  native_session_id: string | null
  readonly created_at: number
}

/** A run without the end of a long prompt, which has a file of its own. */
export type RunRecord = { -readonly [Name in keyof AgentRun]: AgentRun[Name] } & { has_long_prompt?: boolean | undefined }

export interface Stored {
  readonly session: SessionRecord
  readonly runs: readonly RunRecord[]
}

export const shortPromptLength = 2000
const ids = /^[0-9a-f]{16}$/
/** More than a document or a prompt ever has. */
const maxDocumentBytes = 16 * 1024 * 1024
/** What is asked for may hold secrets. */
const requestMode = 0o600

/** A document appears complete or not at all. */
function writeDocument(file: string, document: object, mode = keptMode): void {
  const draft = `${file}.draft`
  writeFileSync(draft, JSON.stringify(document), { mode })
  renameSync(draft, file)
}

const states: ReadonlySet<unknown> = new Set<RunRecord['state']>(['queued', 'running', 'cancelling', 'finished'])

/** Whether it is a run of that place. @param found what a file held */
function isRunAt(found: Partial<RunRecord> | null, sessionId: string, id: string): found is RunRecord {
  const { created_at: createdAt, prompt, harness } = found ?? {}
  const isWhole = typeof createdAt === 'number' && typeof prompt === 'string' && typeof harness === 'string'
  return isWhole && found?.id === id && found.session_id === sessionId && states.has(found.state)
}

const isSessionAt = (found: Partial<SessionRecord> | null, id: string): found is SessionRecord =>
  found?.id === id && typeof found.created_at === 'number' && typeof found.title === 'string' && typeof found.harness === 'string'

export interface RunStoreOptions {
  readonly directory: string
  /** Nothing is made or taken away. */
  readonly isReadOnly?: boolean
  readonly log: Log
}

export class RunStore {
  readonly #directory: string
  readonly #isReadOnly: boolean
  readonly #log: Log

  constructor({ directory, isReadOnly = false, log }: RunStoreOptions) {
    this.#directory = directory
    this.#isReadOnly = isReadOnly
    this.#log = log
    if (isReadOnly) return
    mkdirSync(directory, { recursive: true })
    chmodSync(directory, keptFolderMode)
  }

  #file(sessionId: string, name: string): string {
    return path.join(this.#directory, sessionId, name)
  }

  logFile({ session_id, id }: RunRecord): string {
    return this.#file(session_id, `${id}.jsonl`)
  }

  saveSession(session: SessionRecord): void {
    mkdirSync(path.join(this.#directory, session.id), { recursive: true, mode: keptFolderMode })
    writeDocument(this.#file(session.id, 'session.json'), session)
  }

  saveRun(run: RunRecord): void {
    writeDocument(this.#file(run.session_id, `${run.id}.json`), run)
  }

  /** Keeps what was asked for until the run begins. */
  saveRequest(run: RunRecord, request: StartRun): void {
    if (run.has_long_prompt) writeFileSync(this.#file(run.session_id, `${run.id}.prompt`), request.prompt, { mode: keptMode })
    const document = { ...request, prompt: run.has_long_prompt ? '' : request.prompt }
    writeDocument(this.#file(run.session_id, `${run.id}.request`), document, requestMode)
  }

  /** What was asked for. It may hold secrets, so it is not kept. */
  takeRequest(run: RunRecord): StartRun {
    const file = this.#file(run.session_id, `${run.id}.request`)
    const request: StartRun = JSON.parse(readFileSync(file, 'utf8'))
    rmSync(file)
    return { ...request, prompt: this.promptOf(run) }
  }

  dropRequest(run: RunRecord): void {
    rmSync(this.#file(run.session_id, `${run.id}.request`), { force: true })
  }

  promptOf(run: RunRecord): string {
    return run.has_long_prompt ? readKept(this.#file(run.session_id, `${run.id}.prompt`), maxDocumentBytes) : run.prompt
  }

  /** Takes away what there is of a run that never was. */
  removeRun({ session_id, id }: RunRecord): void {
    for (const name of ['request', 'request.draft', 'prompt', 'json', 'json.draft']) {
      rmSync(this.#file(session_id, `${id}.${name}`), { force: true })
    }
  }

  /** The document of the session goes first: a folder without one is a leftover. */
  removeSession(id: string): void {
    rmSync(this.#file(id, 'session.json'), { force: true })
    rmSync(path.join(this.#directory, id), { recursive: true, force: true })
  }

  /** What a session takes on disk. */
  bytesOf(id: string): number {
    try {
      return readdirSync(path.join(this.#directory, id)).reduce((sum, name) => sum + statSync(this.#file(id, name)).size, 0)
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return 0
      throw error
    }
  }

  /**
   * Everything that was stored. What cannot be read is logged and left alone, but for folders that were being removed.
   * @throws Error of the file system when it was stored for other eyes, as by a sidecar that let nobody else read
   */
  load(): readonly Stored[] {
    const names = readdirSync(this.#directory).filter((name) => ids.test(name))
    return names.flatMap((id) => {
      try {
        return [this.#loadSession(id)]
      } catch (error) {
        if (this.#isReadOnly && errnoOf(error) === 'EACCES') throw error
        if (!this.#isReadOnly && errnoOf(error) === 'ENOENT') this.removeSession(id)
        else this.#log('error', `the conversation ${id} cannot be read`, describe(error))
        return []
      }
    })
  }

  #loadSession(id: string): Stored {
    const folder = path.join(this.#directory, id)
    if (!lstatSync(folder).isDirectory()) throw new Error('it is no folder')
    const session = JSON.parse(readKept(this.#file(id, 'session.json'), maxDocumentBytes))
    if (!isSessionAt(session, id)) throw new Error('its document is of something else')
    const names = readdirSync(folder).filter((name) => /^[0-9a-f]{16}\.json$/.test(name))
    const runs = names.flatMap((name) => {
      try {
        const run = JSON.parse(readKept(this.#file(id, name), maxDocumentBytes))
        if (!isRunAt(run, id, path.basename(name, '.json'))) throw new Error('its document is of something else')
        return [run]
      } catch (error) {
        this.#log('error', `the run ${name} of the conversation ${id} cannot be read`, describe(error))
        return []
      }
    })
    return { session, runs: runs.sort((a, b) => a.created_at - b.created_at || a.id.localeCompare(b.id)) }
  }
}
