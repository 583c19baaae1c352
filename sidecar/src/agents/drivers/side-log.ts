// What a harness writes down for itself and tells nobody.
import type { Turn, TurnContext } from '../harness.ts'
import { type Json, record } from './json.ts'

const maxBytes = 16_777_216

/** The lines that a shell command prints as the user, without those beyond 16 MiB. */
async function readLines(context: TurnContext, command: string, ...args: string[]): Promise<string[]> {
  const process = await context.spawn({ argv: ['/bin/sh', '-c', command, ...args], cwd: context.home })
  process.stdin.on('error', () => undefined).end()
  process.stderr.resume()
  let text = ''
  for await (const chunk of process.stdout.setEncoding('utf8')) if (text.length < maxBytes) text += chunk
  return text.split('\n')
}

/** The records, one JSON document a line, that a shell command prints as the user. Lines that are none are passed over. */
export async function readRecords(context: TurnContext, command: string, ...args: string[]): Promise<Json[]> {
  return (await readLines(context, command, ...args)).flatMap(parse)
}

interface BrokenServer {
  readonly name: string
  readonly message: string
}

/** Tells of the servers of the turn that do not work, as the lines of a log say in which a word stands. */
export async function tellBrokenServers(
  context: TurnContext,
  { mcpServers }: Turn,
  { log, word, read }: { readonly log: string; readonly word: string; readonly read: (line: string) => BrokenServer | undefined },
): Promise<void> {
  if (Object.keys(mcpServers).length === 0) return
  const lines = await readLines(context, 'tail -c 8388608 "$0" | grep -aF -e "$1"', log, word)
  const broken = new Map(lines.flatMap((line) => read(line) ?? []).map((server) => [server.name, server]))
  for (const server of broken.values())
    if (Object.hasOwn(mcpServers, server.name)) context.emit({ type: 'mcp.status', status: 'failed', ...server })
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
