// The harnesses there are. A new one is a file in harnesses/ and a line here.
import type { Harness } from './harness.ts'
import { acp } from './harnesses/acp.ts'
import { claudeCode } from './harnesses/claude-code.ts'
import { codex } from './harnesses/codex.ts'
import { echo } from './harnesses/echo.ts'
import { gemini } from './harnesses/gemini.ts'
import { kimiCode } from './harnesses/kimi-code.ts'
import { opencode } from './harnesses/opencode.ts'

export interface Registry {
  readonly all: readonly Harness[]
  find(id: string): Harness | undefined
}

const all: readonly Harness[] = [claudeCode, codex, opencode, kimiCode, gemini, echo]

export const registry: Registry = {
  all,
  find: (id) => (id.startsWith('acp:') ? acp(id.slice('acp:'.length)) : all.find((harness) => harness.id === id)),
}
