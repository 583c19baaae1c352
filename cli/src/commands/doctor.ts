import type { Command } from 'commander'
import { type GlobalOptions, stateDir } from '../client.ts'
import type { CheckStatus } from '../doctor/check.ts'
import { diagnose, type Report } from '../doctor/doctor.ts'
import { example } from '../example.ts'
import { print, printJson, table } from '../print.ts'

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('Look at this machine and say which runtime is the strongest that is safe here. Ends with 1 when none is.')
    .addHelpText('after', example('atoll doctor', 'atoll doctor --json'))
    .action((_, command: Command) => doctor(command.optsWithGlobals()))
}

async function doctor({ json }: GlobalOptions): Promise<void> {
  const report = await diagnose(stateDir())
  if (json) printJson(report)
  else print(describe(report))
  if (!report.ok) process.exitCode = 1
}

const marks: Readonly<Record<CheckStatus, string>> = { ok: 'ok', warning: 'warning', problem: 'PROBLEM', unknown: 'not known' }

function describe({ checks, strongest }: Report): string {
  const rows = checks.map(({ title, status, seen }) => [title, marks[status], seen])
  const advice = checks.flatMap((check) => (check.advice === undefined ? [] : [`  ${check.title}: ${check.advice}`]))
  const verdict = strongest
    ? `Strongest safe runtime: ${strongest.runtime} (${strongest.why}).`
    : 'No runtime works here. Install bubblewrap (apt-get install bubblewrap) or a container engine (apt-get install docker.io).'
  return [table(['CHECK', 'RESULT', 'SEEN'], rows), ...(advice.length > 0 ? ['', 'What to do:', ...advice] : []), '', verdict].join('\n')
}
