// The `atoll` command: reads what was typed, runs one command, and turns what went wrong into one line and a status.
import { CommanderError } from 'commander'
import { printFailure } from './print.ts'
import { createProgram } from './program.ts'

// A reader that has seen enough (`atoll logs … | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

// What stands after -- belongs to a program in a sandbox.
const separator = process.argv.indexOf('--')
const ownArguments = separator === -1 ? process.argv : process.argv.slice(0, separator)

try {
  await createProgram().parseAsync(process.argv)
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2
  else {
    printFailure(error, ownArguments.includes('--json'))
    process.exitCode = 1
  }
}
// An open standard input would keep the process alive for nothing.
process.stdin.destroy()
