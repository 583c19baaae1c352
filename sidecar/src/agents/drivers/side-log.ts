// What a harness writes down for itself and tells nobody.
import type { TurnContext } from '../harness.ts'
import { type Json, record } from './json.ts'

const maxBytes = 16_777_216

/**
 * The records, one JSON document a line, that a shell command prints as the user. Lines that are none are passed over, as are those
 * beyond 16 MiB.
 */
export async function readRecords(context: TurnContext, command: string, ...args: string[]): Promise<Json[]> {
  const process = await context.spawn({ argv: ['/bin/sh', '-c', command, ...args], cwd: context.home })
  process.stdin.on('error', () => undefined).end()
  process.stderr.resume()
  let text = ''
  for await (const chunk of process.stdout.setEncoding('utf8')) if (text.length < maxBytes) text += chunk
  return text.split('\n').flatMap(parse)
}

/** Tells the records that a shell command goes on printing, until it is stopped. */
export async function followRecords(
  context: TurnContext,
  [command, ...args]: readonly [string, ...string[]],
  tell: (record: Json) => void,
): Promise<() => void> {
  const process = await context.spawn({ argv: ['/bin/sh', '-c', command, ...args], cwd: context.home })
  process.stdin.on('error', () => undefined).end()
  process.stderr.resume()
  // Loaded here, and not at the start of every sandbox.
  const { createInterface } = await import('node:readline')
  const lines = createInterface({ input: process.stdout })
  lines.on('line', (line) => {
    for (const found of parse(line)) tell(found)
  })
  return () => {
    lines.close()
    process.signal('SIGTERM')
  }
}

function parse(line: string): Json[] {
  try {
    return [record(JSON.parse(line))]
  } catch {
    return []
  }
}
