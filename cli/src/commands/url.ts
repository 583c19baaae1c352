import type { Command } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { print, printJson } from '../print.ts'
import { findSandbox } from '../reference.ts'
import { port, seconds } from '../values.ts'

interface UrlOptions extends GlobalOptions {
  readonly ttl?: number
}

export function addUrl(program: Command): void {
  program
    .command('url')
    .description('Print a link that opens a port of a sandbox in a browser until it expires.')
    .argument('<sandbox>')
    .argument('<port>', 'a port that was named when the sandbox was made', port)
    .option('--ttl <time>', 'how long the link works (1h)', seconds)
    .addHelpText('after', example('atoll url web 3000 --ttl 2h'))
    .action((reference: string, number: number, _, command: Command) => url(reference, number, command.optsWithGlobals()))
}

async function url(reference: string, number: number, options: UrlOptions): Promise<void> {
  const sandbox = await findSandbox(connect(options), reference)
  const link = await sandbox.ports.preview(number, options.ttl === undefined ? {} : { ttlSeconds: options.ttl })
  if (options.json) printJson(link)
  else print(link.url)
}
