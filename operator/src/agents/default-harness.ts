// Which harness a run gets that names none.
import type { StartRun } from '@atoll/protocol'
import type { SandboxRecord } from '../sandboxes/sandbox.ts'

/** What clients of the reference send for no agent in particular. */
const noneInParticular = new Set(['', 'default', 'default-agent', 'batch'])

/** A new session is with the agent that the sandbox was made for; where that is none, the image decides. */
export const withHarness = (run: StartRun, { agentIdentifier }: Pick<SandboxRecord, 'agentIdentifier'>): StartRun =>
  run.harness !== '' || run.session_id !== '' || noneInParticular.has(agentIdentifier) ? run : { ...run, harness: agentIdentifier }
