// A program that takes and gives JSON documents, one a line, on its standard streams.
import { setTimeout as delay } from 'node:timers/promises'
import type { Exit } from '@atoll/protocol'
import type { HarnessProcess, Spawning, TurnContext } from '../harness.ts'
import { type Json, record } from './json.ts'

const tailLength = 4096
/** After the program has ended, a child of its that holds the output is waited for so long. */
const lingerMs = 300

function parse(line: string): Json | undefined {
  try {
    return record(JSON.parse(line))
  } catch {
    // Programs print warnings where only JSON should be.
    return undefined
  }
}

export class JsonLines {
  readonly exit: Promise<Exit>
  readonly #process: HarnessProcess
  #errors = ''
  #lastLine = ''

  private constructor(process: HarnessProcess, takeLog: (line: string) => boolean) {
    this.#process = process
    this.exit = process.exit
    process.stderr.setEncoding('utf8').on('data', (text: string) => {
      const lines = `${this.#lastLine}${text}`.split('\n')
      this.#lastLine = lines.pop() ?? ''
      for (const line of lines) if (!takeLog(line)) this.#errors = `${this.#errors}${line}\n`.slice(-tailLength)
    })
    void process.exit.then(() => delay(lingerMs)).then(() => process.stdout.destroy())
  }

  /**
   * `takeLog` is shown each line of standard error; those it answers `true` to are none of the errors.
   * @throws Failure as `TurnContext.spawn`
   */
  static async start(context: TurnContext, spawning: Spawning, takeLog = (_line: string) => false): Promise<JsonLines> {
    return new JsonLines(await context.spawn(spawning), takeLog)
  }

  /** The last that it said beside its documents. */
  get errors(): string {
    return `${this.#errors}${this.#lastLine}`.slice(-tailLength).trim()
  }

  send(message: object): void {
    if (this.#process.stdin.writable) this.#process.stdin.write(`${JSON.stringify(message)}\n`)
  }

  /** Says that nothing more comes, after which these programs end. */
  endInput(): void {
    this.#process.stdin.end()
  }

  /** Each document as it comes, until the program has ended. */
  async *messages(): AsyncGenerator<Json> {
    let rest = ''
    try {
      for await (const chunk of this.#process.stdout.setEncoding('utf8')) {
        // Only line feeds end a line: a text may hold the other separators.
        const lines = `${rest}${chunk}`.split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) {
          const message = parse(line)
          if (message) yield message
        }
      }
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE')) throw error
    }
  }
}
