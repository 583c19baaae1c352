import { ConnectionFailure, Failure, type Sandbox, type Terminal } from '@atoll/sdk'
import type { Command } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { note, writeTo } from '../print.ts'
import { findSandbox } from '../reference.ts'

interface ShellOptions extends GlobalOptions {
  readonly attach?: string
  readonly cwd?: string
}

/** Ctrl-], as in telnet: leaves the terminal and lets it run. */
const detachKey = '\x1d'
const endOfInput = '\x04'
const bell = '\x07'

export function addShell(program: Command): void {
  program
    .command('shell')
    .description('Open a shell on a terminal in a sandbox. Ctrl-] leaves it running; its end ends this command with its status.')
    .argument('<sandbox>')
    .option('--attach <terminal>', 'go on in a terminal that is open already')
    .option('--cwd <folder>', 'where it starts; the workspace when not given')
    .addHelpText('after', example('atoll shell demo'))
    .action((reference: string, _, command: Command) => shell(reference, command.optsWithGlobals()))
}

async function shell(reference: string, options: ShellOptions): Promise<void> {
  const sandbox = await findSandbox(connect(options), reference)
  const terminal = options.attach === undefined ? await open(sandbox, options) : await attach(sandbox, options.attach)
  const left = new AbortController()
  const restore = passInput(terminal, left)
  try {
    for await (const output of terminal.output({ signal: left.signal })) {
      if (output.type === 'output') await writeTo(process.stdout, output.text)
      else if (output.type === 'exit') process.exitCode = output.code ?? 1
    }
  } catch (error) {
    if (!left.signal.aborted && !(error instanceof ConnectionFailure)) throw error
    note(`\r\nThe terminal goes on. Come back with: atoll shell ${sandbox.id} --attach ${terminal.id}`)
    if (!left.signal.aborted) throw error
  } finally {
    restore()
  }
}

function open(sandbox: Sandbox, { cwd }: ShellOptions): Promise<Terminal> {
  return sandbox.terminals.open({ ...localSize(), cwd })
}

/** Undefined when there is no terminal here, or one that does not know its size. */
function localSize(): { cols: number; rows: number } | undefined {
  const { columns: cols, rows } = process.stdout
  return cols > 0 && rows > 0 ? { cols, rows } : undefined
}

async function takeSize(terminal: Terminal): Promise<void> {
  const size = localSize()
  if (size) await terminal.resize(size.cols, size.rows)
}

async function attach(sandbox: Sandbox, reference: string): Promise<Terminal> {
  const [found, second] = (await sandbox.terminals.list()).filter(({ id }) => id.startsWith(reference))
  if (!found) throw new Failure('terminal.not_found', `No terminal "${reference}" in ${sandbox.id}.`)
  if (second && found.id !== reference) throw new Failure('sandbox.ambiguous', `"${reference}" may be several terminals. Write more of it.`)
  await takeSize(found)
  return found
}

/** Sends keys and sizes on until the returned function is called. */
function passInput(terminal: Terminal, left: AbortController): () => void {
  const { stdin, stdout } = process
  const type = (text: string): void => {
    // What is typed while the operator restarts is not sent twice; the bell tells that it was not taken.
    terminal.write(text).catch(() => writeTo(stdout, bell))
  }
  const onData = (text: string): void => {
    if (stdin.isTTY && text.includes(detachKey)) left.abort()
    else type(text)
  }
  const onEnd = (): void => type(endOfInput)
  const onResize = (): void => void takeSize(terminal).catch(() => writeTo(stdout, bell))
  if (stdin.isTTY) stdin.setRawMode(true)
  stdin.setEncoding('utf8')
  stdin.on('data', onData)
  stdin.on('end', onEnd)
  stdout.on('resize', onResize)
  return () => {
    stdin.off('data', onData)
    stdin.off('end', onEnd)
    stdout.off('resize', onResize)
    if (stdin.isTTY) stdin.setRawMode(false)
    stdin.pause()
  }
}
