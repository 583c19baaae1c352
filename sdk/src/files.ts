import { Failure, type FileEntry, routes, type WatchEvent } from '@atoll/protocol'
import type { Connection } from './connection.ts'
import { ConnectionFailure } from './connection-failure.ts'
import { follow } from './follow.ts'

/** What a file can be written from. A stream is sent as it comes and is not held in memory. */
export type FileSource = string | Uint8Array | Blob | ReadableStream<Uint8Array>

/** The part of a file to read, in bytes. */
export interface ReadRange {
  /** First byte; 0 when not given. */
  readonly offset?: number
  /** How many bytes; up to the end when not given. */
  readonly length?: number
}

/**
 * Files of a sandbox, as its user sees them. A path is absolute under /home/agent or /tmp, or relative to the workspace.
 * Everything throws Failures with codes that start with `file.`.
 */
export class Files {
  readonly #connection: Connection
  readonly #id: string

  constructor(connection: Connection, sandboxId: string) {
    this.#connection = connection
    this.#id = sandboxId
  }

  /** A file's bytes, or a part of them. @throws Failure `file.not_found`, `file.is_a_directory`, `file.range` */
  async read(path: string, range?: ReadRange): Promise<Uint8Array> {
    const response = await this.#download(path, range)
    try {
      return new Uint8Array(await response.arrayBuffer())
    } catch (error) {
      throw new ConnectionFailure(this.#connection.url, error)
    }
  }

  /** A file as text (UTF-8). @throws as `read` */
  async readText(path: string): Promise<string> {
    return new TextDecoder().decode(await this.read(path))
  }

  /** A file as a stream, which fails when the connection breaks before the end. @throws as `read` */
  async readStream(path: string, range?: ReadRange): Promise<ReadableStream<Uint8Array>> {
    const { body } = await this.#download(path, range)
    return body ?? new Blob([]).stream()
  }

  /**
   * Writes a file whole: it appears complete or not at all. Missing directories are made.
   * @param options.mode permission bits as octal text, such as `755`
   * @throws Failure `file.disk_full`, `file.permission`, `file.is_a_directory`
   */
  write(path: string, source: FileSource, options: { readonly mode?: string; readonly signal?: AbortSignal } = {}): Promise<FileEntry> {
    const { mode, signal } = options
    return this.#connection.call(
      routes.files.upload,
      { params: { id: this.#id }, query: { path, ...(mode !== undefined && { mode }) } },
      // A stream that was read once cannot be sent again.
      { upload: bodyOf(source), isRepeatable: !(source instanceof ReadableStream), signal },
    )
  }

  /** The entries of a directory, sorted by name; the workspace when not given. @throws Failure `file.not_a_directory` */
  async list(path = '.'): Promise<FileEntry[]> {
    const { entries } = await this.#connection.call(routes.files.list, { params: { id: this.#id }, query: { path } })
    return entries
  }

  /** What a path is; links are not followed. @throws Failure `file.not_found` */
  stat(path: string): Promise<FileEntry> {
    return this.#connection.call(routes.files.stat, { params: { id: this.#id }, query: { path } })
  }

  /** Whether the path exists. */
  async exists(path: string): Promise<boolean> {
    try {
      await this.stat(path)
      return true
    } catch (error) {
      if (error instanceof Failure && (error.code === 'file.not_found' || error.code === 'file.not_a_directory')) return false
      throw error
    }
  }

  /** Makes a directory and its parents. Safe to repeat. @throws Failure `file.exists` when it is a file */
  mkdir(path: string): Promise<FileEntry> {
    return this.#connection.call(routes.files.mkdir, { params: { id: this.#id }, body: { path } }, { isRepeatable: true })
  }

  /** Moves or renames. @throws Failure `file.exists` when the target exists and `overwrite` is not true */
  move(from: string, to: string, options: { readonly overwrite?: boolean } = {}): Promise<FileEntry> {
    return this.#connection.call(routes.files.move, { params: { id: this.#id }, body: { from, to, overwrite: options.overwrite ?? false } })
  }

  /**
   * Removes a file, or with `recursive` a directory with all in it. Resolves with false when nothing was there.
   * @throws Failure `file.not_empty`, `file.is_a_directory`
   */
  async remove(path: string, options: { readonly recursive?: boolean } = {}): Promise<boolean> {
    const query = { path, recursive: options.recursive ? ('true' as const) : ('false' as const) }
    return (await this.#connection.call(routes.files.remove, { params: { id: this.#id }, query })).deleted
  }

  /**
   * Changes under a path, until the reader leaves or the signal aborts. The first event is `ready`. After `overflow`, which a lost
   * connection causes too, changes are missing and the reader must list again.
   */
  async *watch(
    path = '.',
    options: { readonly recursive?: boolean; readonly signal?: AbortSignal; readonly patienceMs?: number } = {},
  ): AsyncGenerator<WatchEvent> {
    const { signal, patienceMs, recursive = false } = options
    const query = { path, recursive: recursive ? ('true' as const) : ('false' as const) }
    const input = { params: { id: this.#id }, query }
    const onReconnect = (): WatchEvent => ({ type: 'overflow' })
    let isReady = false
    for await (const { event } of follow(this.#connection, routes.files.watch, input, { signal, patienceMs, onReconnect })) {
      if (event.type === 'ready' && isReady) continue
      isReady ||= event.type === 'ready'
      yield event
    }
  }

  #download(path: string, range: ReadRange | undefined): Promise<Response> {
    const headers = range ? { range: rangeHeader(range) } : {}
    return this.#connection.open(routes.files.download, { params: { id: this.#id }, query: { path } }, { headers })
  }
}

const rangeHeader = ({ offset = 0, length }: ReadRange): string => `bytes=${offset}-${length === undefined ? '' : offset + length - 1}`

const bodyOf = (source: FileSource): BodyInit => (source instanceof Uint8Array ? new Uint8Array(source) : source)
