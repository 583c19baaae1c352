import type { Process } from '@atoll/sdk'
import type { Command } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { note, printJson, writeTo } from '../print.ts'
import { findProcess, findSandbox } from '../reference.ts'

interface LogsOptions extends GlobalOptions {
  readonly follow?: boolean
}

export function addLogs(program: Command): void {
  program
    .command('logs')
    .description('Print what a process has written.')
    .argument('<sandbox>')
    .argument('<process>', 'its id, the beginning of it, or its pid; see: atoll ps')
    .option('-f, --follow', 'go on until it ends')
    .addHelpText('after', example('atoll logs demo 4f2a -f'))
    .action((sandbox: string, name: string, _, command: Command) => logs(sandbox, name, command.optsWithGlobals()))
}

async function logs(reference: string, name: string, options: LogsOptions): Promise<void> {
  const sandbox = await findSandbox(connect(options), reference)
  const process = await findProcess(sandbox, name)
  if (options.json) return printJson(await whole(process, options))
  for await (const output of outputs(process, options)) {
    if (output.stream === 'gap') note(`atoll: ${output.events} pieces of output are not kept any more`)
    else await writeTo(globalThis.process[output.stream], output.bytes)
  }
}

/** Up to its end, or (without `follow`) to what it has written so far. */
async function* outputs(process: Process, { follow }: LogsOptions) {
  const isLive = follow || process.info.exit !== null
  const last = process.info.last_seq
  if (!isLive && last === 0) return
  for await (const output of process.output({ cursor: 0 })) {
    yield output
    if (!isLive && output.stream !== 'gap' && output.seq >= last) return
  }
}

async function whole(process: Process, options: LogsOptions): Promise<object> {
  const texts = { stdout: '', stderr: '' }
  let isComplete = true
  for await (const output of outputs(process, options)) {
    if (output.stream === 'gap') isComplete = false
    else texts[output.stream] += output.text
  }
  return { id: process.id, ...texts, truncated: !isComplete, exit: (await process.refresh()).exit }
}
