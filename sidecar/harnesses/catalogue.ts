// The harnesses that an image can have.
import { claudeCode } from './catalogue/claude-code.ts'
import { codex } from './catalogue/codex.ts'
import { gemini } from './catalogue/gemini.ts'
import { kimiCode } from './catalogue/kimi-code.ts'
import { opencode } from './catalogue/opencode.ts'
import type { Harness } from './harness.ts'

export const catalogue: readonly Harness[] = [claudeCode, codex, opencode, kimiCode, gemini]

/** By id or another name of it. */
export const findHarness = (name: string): Harness | undefined => catalogue.find(({ id, aliases }) => id === name || aliases.includes(name))
