import type { Command } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { download } from '../copy/download.ts'
import { isSandboxPlace, type Place, placeOf } from '../copy/place.ts'
import { upload } from '../copy/upload.ts'
import { example } from '../example.ts'
import { printJson } from '../print.ts'
import { findSandbox } from '../reference.ts'

export function addCp(program: Command): void {
  program
    .command('cp')
    .description('Copy files and folders into a sandbox or out of it. - is standard input or output.')
    .argument('<from>', 'a local path, SANDBOX:PATH, or -', placeOf)
    .argument('<to>', 'a local path, SANDBOX:PATH, or -', placeOf)
    .addHelpText('after', example('atoll cp ./src demo:src', 'atoll cp demo:out/report.pdf .', 'tar c . | atoll cp - demo:/tmp/all.tar'))
    .action((from: Place, to: Place, _, command: Command) => cp(from, to, command))
}

async function cp(from: Place, to: Place, command: Command): Promise<void> {
  const options: GlobalOptions = command.optsWithGlobals()
  const isUpload = isSandboxPlace(to)
  if (isSandboxPlace(from) === isUpload) command.error('error: one of the two must be in a sandbox, written SANDBOX:PATH', { exitCode: 2 })
  const atoll = connect(options)
  const copied = isSandboxPlace(to)
    ? await upload(from.path, (await findSandbox(atoll, to.sandbox)).files, to.path)
    : isSandboxPlace(from)
      ? await download((await findSandbox(atoll, from.sandbox)).files, from.path, to.path)
      : { files: 0, bytes: 0 }
  if (options.json) printJson(copied)
}
