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
  /** By its id, or another name that clients have for it. */
  find(name: string): Harness | undefined
}

const all: readonly Harness[] = [claudeCode, codex, opencode, kimiCode, gemini, echo]

/** Names by which clients know some of them beside their ids. */
const otherNames: Readonly<Record<string, string | undefined>> = { claude: 'claude-code', kimi: 'kimi-code' }

export const registry: Registry = {
  all,
  find: (name) => {
    if (name.startsWith('acp:')) return acp(name.slice('acp:'.length))
    const id = Object.hasOwn(otherNames, name) ? otherNames[name] : name
    return all.find((harness) => harness.id === id)
  },
}
