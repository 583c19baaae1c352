import { Command } from 'commander'
import { addAgent } from './commands/agent.ts'
import { addAudit } from './commands/audit.ts'
import { addCp } from './commands/cp.ts'
import { addCreate } from './commands/create.ts'
import { addDoctor } from './commands/doctor.ts'
import { addEgress } from './commands/egress.ts'
import { addExec } from './commands/exec.ts'
import { addHarness } from './commands/harness.ts'
import { addKeys } from './commands/keys.ts'
import { addLogs } from './commands/logs.ts'
import { addLs } from './commands/ls.ts'
import { addProviderKey } from './commands/provider-key.ts'
import { addPs } from './commands/ps.ts'
import { addServe } from './commands/serve.ts'
import { addService } from './commands/service.ts'
import { addShell } from './commands/shell.ts'
import { addFork, addSnapshot } from './commands/snapshot.ts'
import { addPause, addResume, addRm, addSet, addStop } from './commands/state.ts'
import { addUrl } from './commands/url.ts'
import { addUsage } from './commands/usage.ts'

/** All commands. What was typed wrongly is thrown, not exited on. */
export function createProgram(): Command {
  const program = new Command('atoll')
    .description('Sandboxes for AI agents, on your own machine.')
    .version('0.1.0')
    .option('--url <url>', 'the operator; ATOLL_URL, else http://127.0.0.1:9090')
    .option('--key <key>', "an API key; ATOLL_API_KEY, else this machine's admin key when the operator is here")
    .option('--json', 'results for programs; failures as {"error","code"} on standard error')
    .showHelpAfterError('(add --help for what can be typed)')
    .exitOverride()
  const add = [
    addServe,
    addCreate,
    addLs,
    addExec,
    addAgent,
    addShell,
    addCp,
    addPs,
    addLogs,
    addPause,
    addStop,
    addResume,
    addRm,
    addSet,
    addSnapshot,
    addFork,
    addUrl,
    addKeys,
    addService,
    addProviderKey,
    addEgress,
    addUsage,
    addAudit,
    addHarness,
    addDoctor,
  ]
  for (const one of add) one(program)
  program.addHelpText(
    'after',
    `
A sandbox is named by its id, the beginning of its id, or its name.

Example:
  $ atoll create --name demo
  $ atoll exec demo -- uname -a
  $ atoll rm demo`,
  )
  return program
}
