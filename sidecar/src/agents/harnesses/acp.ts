// `acp:<command>`: any program that speaks the Agent Client Protocol, with what the protocol alone offers.
import { type AcpEnd, runAcpTurn, usageOf, withInstructions } from '../drivers/acp.ts'
import type { Harness, Turn, TurnContext, TurnEnd } from '../harness.ts'

/** What programs call the mode in which they do not ask, and that in which they do. */
const modes = { auto: ['yolo', 'bypassPermissions', 'agent-full-access', 'full-access'], ask: ['default', 'ask'] } as const

const missing: readonly (readonly [name: string, isWanted: (turn: Turn) => boolean])[] = [
  ['skills', ({ skills }) => Object.keys(skills).length > 0],
  ['subagents', ({ subagents }) => Object.keys(subagents).length > 0],
]

async function run(command: string, turn: Turn, context: TurnContext): Promise<TurnEnd> {
  for (const [name, isWanted] of missing)
    if (isWanted(turn)) context.emit({ type: 'warning', message: `A program over ACP cannot be given ${name}.` })
  return runAcpTurn(turn, context, {
    argv: ['/bin/sh', '-c', command],
    modes: modes[turn.permissionMode],
    choosesModel: false,
    prompt: withInstructions(turn),
    // It is not known.
    hidesArguments: true,
    maxAnswers: turn.maxTurns,
    closing: async (end: AcpEnd) => {
      const usage = usageOf(end.answer)
      if (usage) context.emit({ type: 'usage', scope: 'step', ...usage })
      return end
    },
  })
}

/** Of the operator's credentials it gets none, being whatever program the caller wants. */
export const acp = (command: string): Harness => ({
  id: `acp:${command}`,
  label: command,
  command: command.trim().split(/\s+/, 1)[0],
  mcp: true,
  skills: false,
  subagents: false,
  credentialEnv: [],
  hasCredentials: () => true,
  turn: (turn, context) => run(command, turn, context),
})
