import type { AuditEntry } from '@atoll/sdk'
import { type Command, InvalidArgumentError } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { note, print, printJson, table } from '../print.ts'
import { number } from '../values.ts'

interface ListOptions extends GlobalOptions {
  readonly owner?: string
  readonly action?: string
  readonly after?: number
}

interface VerifyOptions extends GlobalOptions {
  readonly head?: { readonly seq: number; readonly hash: string }
}

export function addAudit(program: Command): void {
  const audit = program.command('audit').description('Who did what: the log, and whether it is as it was written.')
  audit
    .command('list')
    .description('List what you did and what was done to what is yours; with an admin key, everything.')
    .option('--owner <owner>', 'who did it, or whose it was done to')
    .option('--action <name>', 'a name such as secret.read, or the first part of several, such as secret')
    .option('--after <number>', 'only entries after this one', number)
    .addHelpText('after', example('atoll audit list --action secret', 'atoll audit list --owner ann --json'))
    .action((_, command: Command) => list(command.optsWithGlobals()))
  audit
    .command('verify')
    .description('Prove that nothing in the log was changed, left out, put in or cut off. Needs an admin key.')
    .option('--head <number:hash>', 'where an earlier verify said that the log ended, which must still be so', anchor)
    .addHelpText('after', example('atoll audit verify'))
    .action((_, command: Command) => verify(command.optsWithGlobals()))
}

function anchor(text: string): { seq: number; hash: string } {
  const [, seq, hash] = /^([1-9]\d{0,14}):([0-9a-f]{64})$/.exec(text) ?? []
  if (seq === undefined || hash === undefined) throw new InvalidArgumentError('Write it as verify prints it, such as 120:4be1…')
  return { seq: Number(seq), hash }
}

async function list({ owner, action, after, ...options }: ListOptions): Promise<void> {
  const found: AuditEntry[] = []
  for await (const entry of connect(options).audit.entries({ owner, action, cursor: after })) found.push(entry)
  if (options.json) return printJson(found)
  print(table(['NUMBER', 'TIME', 'BY', 'ACTION', 'SUBJECT', 'OUTCOME', 'DETAIL'], found.map(row)))
}

const row = ({ seq, at, actor, action, subject, outcome, count, detail }: AuditEntry): string[] => [
  String(seq),
  new Date(at).toISOString(),
  actor.owner || actor.via,
  action,
  subject || '-',
  count > 1 ? `${outcome} x${count}` : outcome,
  Object.entries(detail)
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' '),
]

async function verify({ head, ...options }: VerifyOptions): Promise<void> {
  const verdict = await connect(options).audit.verify({ anchor: head })
  const { isIntact, entries, firstSeq, problem } = verdict
  const end = `${verdict.head.seq}:${verdict.head.hash}`
  if (!isIntact) process.exitCode = 1
  if (options.json) return printJson({ intact: isIntact, entries, first_seq: firstSeq, head: end, ...(problem && { problem }) })
  if (problem) return note(`atoll: the audit log is broken at entry ${problem.seq}: ${problem.problem}.`)
  print(end)
  note(`${entries} entries, from ${firstSeq} on, are as they were written. Keep the line above elsewhere, for --head.`)
}
