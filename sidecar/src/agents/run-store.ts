// Sessions and runs on disk: a folder for each session, with a document for it, one for each run, and the runs' logs.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { AgentRun, StartRun } from '@atoll/protocol'
import { errnoOf } from '../files/file-failure.ts'
import { describe, type Log } from '../log.ts'

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

/** A document appears complete or not at all. */
function writeDocument(file: string, document: object): void {
  const draft = `${file}.draft`
  writeFileSync(draft, JSON.stringify(document), { mode: 0o600 })
  renameSync(draft, file)
}

export class RunStore {
  readonly #directory: string
  readonly #log: Log

  constructor(directory: string, log: Log) {
    this.#directory = directory
    this.#log = log
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  }

  #file(sessionId: string, name: string): string {
    return path.join(this.#directory, sessionId, name)
  }

  logFile({ session_id, id }: RunRecord): string {
    return this.#file(session_id, `${id}.jsonl`)
  }

  saveSession(session: SessionRecord): void {
    mkdirSync(path.join(this.#directory, session.id), { recursive: true, mode: 0o700 })
    writeDocument(this.#file(session.id, 'session.json'), session)
  }

  saveRun(run: RunRecord): void {
    writeDocument(this.#file(run.session_id, `${run.id}.json`), run)
  }

  /** Keeps what was asked for until the run begins. */
  saveRequest(run: RunRecord, request: StartRun): void {
    if (run.has_long_prompt) writeFileSync(this.#file(run.session_id, `${run.id}.prompt`), request.prompt, { mode: 0o600 })
    writeDocument(this.#file(run.session_id, `${run.id}.request`), { ...request, prompt: run.has_long_prompt ? '' : request.prompt })
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
    return run.has_long_prompt ? readFileSync(this.#file(run.session_id, `${run.id}.prompt`), 'utf8') : run.prompt
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

  /** Everything that was stored. What cannot be read is logged and left alone, but for folders that were being removed. */
  load(): readonly Stored[] {
    const names = readdirSync(this.#directory).filter((name) => ids.test(name))
    return names.flatMap((id) => {
      try {
        return [this.#loadSession(id)]
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') this.removeSession(id)
        else this.#log('error', `the conversation ${id} cannot be read`, describe(error))
        return []
      }
    })
  }

  #loadSession(id: string): Stored {
    const session: SessionRecord = JSON.parse(readFileSync(this.#file(id, 'session.json'), 'utf8'))
    const names = readdirSync(path.join(this.#directory, id)).filter((name) => /^[0-9a-f]{16}\.json$/.test(name))
    const runs = names.flatMap((name) => {
      try {
        const run: RunRecord = JSON.parse(readFileSync(this.#file(id, name), 'utf8'))
        return [run]
      } catch (error) {
        this.#log('error', `the run ${name} of the conversation ${id} cannot be read`, describe(error))
        return []
      }
    })
    return { session, runs: runs.sort((a, b) => a.created_at - b.created_at || a.id.localeCompare(b.id)) }
  }
}
