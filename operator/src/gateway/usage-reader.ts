// Reads what a model call has used from the answer as it passes, without holding it up or changing it.
import type { Transform } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import zlib from 'node:zlib'
import type { UsageFields } from './providers.ts'

/** Tokens; `input` without what came from a cache. */
export interface Usage {
  readonly model: string
  readonly input: number
  readonly output: number
  readonly cached: number
  /** US dollars, where the provider says them. */
  readonly cost: number | undefined
  /** The answer said nothing of its usage, so that it is reckoned from sizes. */
  readonly isEstimated: boolean
}

/** Longer documents and events are not read. */
const maxDocument = 16 * 1024 * 1024
const maxModelName = 200
/** Bytes that wait to be unpacked. */
const maxBehind = 4 * 1024 * 1024
/** Bytes of text in a token, roughly. */
const bytesPerToken = 4

const decoders: Readonly<Record<string, () => Transform>> = {
  gzip: zlib.createGunzip,
  'x-gzip': zlib.createGunzip,
  deflate: zlib.createInflate,
  br: zlib.createBrotliDecompress,
  zstd: zlib.createZstdDecompress,
}

type Name = Exclude<keyof UsageFields, 'inputHoldsCached'>
const names: readonly Name[] = ['model', 'input', 'inputBeside', 'output', 'outputBeside', 'cached', 'cost']

const counted = names.filter((name) => name !== 'model')

const at = (value: unknown, path: string): unknown =>
  path
    .split('.')
    .reduce<unknown>((inside, name) => (inside !== null && typeof inside === 'object' ? Reflect.get(inside, name) : undefined), value)

const isAmount = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value >= 0

/** Whether a document may say anything of usage; most events of a stream do not, and are not parsed. */
const mayTell = (text: string): boolean => /usage|"model(Version)?"/i.test(text)

/** A data line of a stream, or undefined. */
const dataOf = (line: string): string | undefined => (line.startsWith('data:') ? line.slice(5).trim() : undefined)

export class UsageReader {
  readonly #fields: UsageFields
  readonly #isStream: boolean
  readonly #decoder: Transform | undefined
  readonly #text = new StringDecoder('utf8')
  readonly #values: { [Field in Name]?: number | string } = {}
  #pending = ''
  #isTooLong = false
  #events = 0
  #bytes = 0

  /** @param headers of the answer */
  constructor(fields: UsageFields, headers: { readonly contentType: string; readonly contentEncoding: string }) {
    this.#fields = fields
    this.#isStream = headers.contentType.includes('event-stream')
    this.#decoder = decoders[headers.contentEncoding.trim().toLowerCase()]?.()
    this.#decoder?.on('data', (chunk: Buffer) => this.#take(chunk))
    // A body that is cut off or not what it says has been passed on all the same.
    this.#decoder?.on('error', () => undefined)
  }

  push(chunk: Buffer): void {
    this.#bytes += chunk.length
    const decoder = this.#decoder
    if (!decoder) {
      this.#take(chunk)
      return
    }
    // An answer that cannot be unpacked as fast as it comes is passed on all the same, and reckoned from its size.
    if (decoder.writableLength > maxBehind) decoder.destroy()
    if (!decoder.destroyed) decoder.write(chunk)
  }

  /** One message of a socket. */
  message(text: string): void {
    this.#bytes += text.length
    this.#events += 1
    const before = { ...this.#values }
    for (const name of counted) delete this.#values[name]
    this.#read(text)
    // A socket carries many answers, each with its own usage.
    for (const name of counted) {
      const sum = Number(before[name] ?? 0) + Number(this.#values[name] ?? 0)
      if (before[name] !== undefined || this.#values[name] !== undefined) this.#values[name] = sum
    }
  }

  /** @param sent bytes of the request's body. @param isWhole whether all of the answer has passed, its last word on usage too */
  async end(sent: number, isWhole = true): Promise<Usage> {
    const decoder = this.#decoder
    if (decoder && !decoder.destroyed) {
      await new Promise<void>((resolve) => {
        for (const event of ['end', 'error', 'close']) decoder.once(event, () => resolve())
        decoder.end()
      })
    }
    this.#line(this.#pending)
    if (!this.#isStream) this.#read(this.#pending)
    const usage = this.#usage(sent)
    return isWhole ? usage : { ...usage, output: Math.max(usage.output, this.#events), isEstimated: true }
  }

  #take(chunk: Buffer): void {
    const text = this.#text.write(chunk)
    if (this.#isStream) this.#takeLines(text)
    else this.#keep(text)
  }

  #takeLines(text: string): void {
    const lines = (this.#pending + text).split('\n')
    this.#pending = ''
    this.#keep(lines.pop() ?? '')
    for (const line of lines) this.#line(line)
  }

  #keep(text: string): void {
    if (this.#pending.length + text.length <= maxDocument && !this.#isTooLong) this.#pending += text
    else {
      this.#isTooLong = !this.#isStream
      this.#pending = ''
    }
  }

  #line(line: string): void {
    const data = this.#isStream ? dataOf(line) : undefined
    if (data === undefined) return
    this.#events += 1
    this.#read(data)
  }

  #read(text: string): void {
    if (!mayTell(text)) return
    let document: unknown
    try {
      document = JSON.parse(text)
    } catch {
      return // Not JSON, or half of it: nothing is known of its usage.
    }
    for (const one of Array.isArray(document) ? document : [document]) this.#note(one)
  }

  #note(document: unknown): void {
    for (const name of names) {
      for (const path of this.#fields[name] ?? []) {
        const value = at(document, path)
        if (name === 'model' ? typeof value === 'string' : isAmount(value)) this.#values[name] = value as number | string
      }
    }
  }

  #amount(name: Name): number {
    const value = this.#values[name]
    return typeof value === 'number' ? value : 0
  }

  #usage(sent: number): Usage {
    const model = String(this.#values.model ?? '').slice(0, maxModelName)
    const cost = this.#values.cost === undefined ? undefined : this.#amount('cost')
    const isEstimated = this.#values.input === undefined && this.#values.output === undefined
    if (isEstimated) {
      const output = this.#isStream || this.#events > 0 ? this.#events : Math.ceil(this.#bytes / bytesPerToken)
      return { model, input: Math.ceil(sent / bytesPerToken), output, cached: 0, cost, isEstimated }
    }
    const cached = this.#amount('cached')
    const held = this.#fields.inputHoldsCached ? cached : 0
    return {
      model,
      input: Math.max(0, this.#amount('input') - held) + this.#amount('inputBeside'),
      output: this.#amount('output') + this.#amount('outputBeside'),
      cached,
      cost,
      isEstimated,
    }
  }
}
