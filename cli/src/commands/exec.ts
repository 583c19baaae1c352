import type { Process, RunResult, SignalName } from '@atoll/sdk'
import type { Command } from 'commander'
import { connect, type GlobalOptions } from '../client.ts'
import { example } from '../example.ts'
import { note, printJson, writeTo } from '../print.ts'
import { findSandbox } from '../reference.ts'
import { addPair, seconds } from '../values.ts'

interface ExecOptions extends GlobalOptions {
  readonly cwd?: string
  readonly env?: Record<string, string>
  readonly timeout?: number
  /** False with --no-stdin. */
  readonly stdin: boolean
}

export function addExec(program: Command): void {
  program
    .command('exec')
    .description("Run a program in a sandbox with this command's input, output and signals, and end with its status.")
    .argument('<sandbox>')
    .argument('<argv...>', 'the program and its arguments, after --; no shell sees them')
    .option('--cwd <folder>', 'where it runs; the workspace when not given')
    .option('--env <KEY=VALUE>', 'an environment variable; may be repeated', addPair)
    .option('--timeout <time>', 'time after which it is killed, such as 90s', seconds)
    .option('-n, --no-stdin', 'give it no input')
    .addHelpText('after', example('atoll exec demo -- ls -l', "atoll exec demo --cwd src -- sh -c 'echo $HOME; exit 3'"))
    .action((reference: string, argv: string[], _, command: Command) => exec(reference, argv, command.optsWithGlobals()))
}

async function exec(reference: string, argv: readonly string[], options: ExecOptions): Promise<void> {
  const sandbox = await findSandbox(connect(options), reference)
  const abort = new AbortController()
  const result = await sandbox.run(argv, {
    cwd: options.cwd,
    env: options.env,
    timeoutMs: options.timeout === undefined ? undefined : options.timeout * 1000,
    stdin: options.stdin ? process.stdin : undefined,
    collect: options.json ?? false,
    signal: abort.signal,
    onStart: (started) => passSignals(started, abort),
    ...(!options.json && {
      onOutput: async (output) => {
        if (output.stream === 'gap') note(`atoll: ${output.events} pieces of output were lost`)
        else await writeTo(process[output.stream], output.bytes)
      },
    }),
  })
  finish(result, options)
}

/** The first signal goes to the command; a second one, or one that cannot be sent, ends it for good. */
function passSignals(started: Process, abort: AbortController): void {
  let isAsked = false
  const pass = (signal: SignalName): void => {
    if (isAsked) abort.abort(new Error(`The command was killed (${signal} came twice).`))
    else started.kill(signal).catch((error: unknown) => abort.abort(error))
    isAsked = true
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const) process.on(signal, pass)
}

function finish(result: RunResult, options: ExecOptions): void {
  const { exit, exitCode, stdout, stderr, truncated, timedOut, durationMs } = result
  if (options.json) printJson({ exit_code: exitCode, exit, stdout, stderr, truncated, timed_out: timedOut, duration_ms: durationMs })
  else if (timedOut) note(`atoll: the command did not end within ${options.timeout} s and was killed`)
  else if (exit.type === 'lost') note(`atoll: how the command ended is not known: ${exit.reason}`)
  process.exitCode = exitCode
}
